// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// reviewInterval is how often the API server is asked again whether an accepted class's ClusterRoles can be bound.
const reviewInterval = 10 * time.Minute

// ClerkTenantClassReconciler tells whether a class can be used: whether the operator may bind what it lists.
type ClerkTenantClassReconciler struct{ base }

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerktenantclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerktenantclasses/status,verbs=patch

// SetupWithManager watches classes.
func (r *ClerkTenantClassReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("clerktenantclass").
		For(&clerkv1alpha1.ClerkTenantClass{}, builder.WithPredicates(specChanged())).
		Watches(&clerkv1alpha1.ClerkOrganization{}, tenantsOfClass()).
		Watches(&clerkv1alpha1.ClerkUser{}, tenantsOfClass()).
		Watches(&clerkv1alpha1.ClerkInstance{}, handler.EnqueueRequestsFromMapFunc(r.every(&clerkv1alpha1.ClerkTenantClassList{})),
			builder.WithPredicates(changed(func(client.Object) any { return nil }))). // how many there are
		WatchesRawSource(r.gate.onChange(r.every(&clerkv1alpha1.ClerkTenantClassList{}))).
		WithOptions(controllerOptions()).
		Complete(r)
}

// countDelay is how long tenants of a class may come and go before they are counted: a count for each would be a write
// for each.
const countDelay = time.Second

// tenantsOfClass leads from an owner to the classes that it came to, left or waits for, that were brought to it, and that
// could not tell whether they select it.
func tenantsOfClass() handler.EventHandler {
	enqueue := func(q queue, objects ...client.Object) {
		for _, o := range objects {
			status := o.(owner).GetTenantStatus()
			for _, class := range append(passedOverBy(o.(owner)), status.TenantClass, status.PendingTenantClass) {
				if class != "" {
					q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKey{Name: class}}, countDelay)
				}
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(q, e.Object) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { enqueue(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if placeOf(e.ObjectOld) != placeOf(e.ObjectNew) {
				enqueue(q, e.ObjectOld, e.ObjectNew)
			}
		},
	}
}

// placeOf is what of an owner is told by classes.
func placeOf(o client.Object) any {
	status := o.(owner).GetTenantStatus()
	return [5]any{
		status.TenantClass, status.TenantClassGeneration, status.PendingTenantClass, strings.Join(passedOverBy(o.(owner)), " "),
		failureOf(o.(owner)),
	}
}

// failureOf is the reason why an owner's tenant is not as its class wants it; nothing when it is, or is not to be.
func failureOf(o owner) string {
	if !o.GetDeletionTimestamp().IsZero() || isHeld(o) {
		return ""
	}
	for _, conditionType := range tenantConditions {
		condition := meta.FindStatusCondition(*o.GetConditions(), conditionType)
		if condition != nil && condition.Status == metav1.ConditionFalse {
			return condition.Reason
		}
	}
	return ""
}

// Reconcile takes one class's status to where it should be.
func (r *ClerkTenantClassReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	class := &clerkv1alpha1.ClerkTenantClass{}
	if err := r.client.Get(ctx, req.NamespacedName, class); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !class.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	before := class.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, class, result, err) }()
	class.Status.ObservedGeneration = class.Generation
	r.gate.tell(class)
	owners, err := r.owners(ctx, class.TenantKind())
	if err != nil {
		return ctrl.Result{}, err
	}
	countTenants(class, owners)
	tellOfTenants(class, owners)
	var instances clerkv1alpha1.ClerkInstanceList
	if err := r.client.List(ctx, &instances, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing ClerkInstances: %w", err)
	}
	tellOfInstances(class, instances.Items)
	if err := r.selectors.Check(class); err != nil {
		setReady(class, metav1.ConditionFalse, clerkv1alpha1.ReasonInvalidExpression,
			fmt.Sprintf("spec.selector.expression selects nothing: %v", err))
		return ctrl.Result{}, nil
	}
	unbindable, err := r.unbindable(ctx, class)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(unbindable) > 0 {
		setReady(class, metav1.ConditionFalse, clerkv1alpha1.ReasonRoleNotBindable, fmt.Sprintf(
			"the operator may not bind the ClusterRoles %q; add them to its bindable ClusterRoles or take them out of the class",
			unbindable))
		return ctrl.Result{RequeueAfter: recheckInterval}, nil
	}
	if tenants, updated := *class.Status.Tenants, *class.Status.Updated; updated < tenants {
		setReady(class, metav1.ConditionUnknown, clerkv1alpha1.ReasonRollingOut,
			fmt.Sprintf("%d of %d tenants are as the class says now", updated, tenants))
		return ctrl.Result{RequeueAfter: recheckInterval}, nil
	}
	setReady(class, metav1.ConditionTrue, clerkv1alpha1.ReasonAccepted, "the class can be used"+r.unevaluated(class, owners))
	return ctrl.Result{RequeueAfter: reviewInterval}, nil
}

// countTenants counts those who have, or wait for, a place in a class.
func countTenants(class *clerkv1alpha1.ClerkTenantClass, owners []owner) {
	var tenants, updated, pending int
	for _, o := range owners {
		status := o.GetTenantStatus()
		switch class.Name {
		case status.TenantClass:
			tenants++
			if status.TenantClassGeneration == class.Generation || !o.GetDeletionTimestamp().IsZero() || isHeld(o) {
				updated++
			}
		case status.PendingTenantClass:
			pending++
		}
	}
	class.Status.Tenants, class.Status.Updated, class.Status.Pending = count(tenants), count(updated), count(pending)
}

// maxFailing is how many of the tenants that are not as their class wants them the class names.
const maxFailing = 3

// tellOfTenants says which tenants of a class, whose tenants are counted, are not as it wants them.
func tellOfTenants(class *clerkv1alpha1.ClerkTenantClass, owners []owner) {
	var failing []string
	for _, o := range owners {
		if reason := failureOf(o); reason != "" && o.GetTenantStatus().TenantClass == class.Name {
			failing = append(failing, fmt.Sprintf("%s (%s)", o.GetClerkID(), reason))
		}
	}
	set := func(status metav1.ConditionStatus, reason, message string) {
		setCondition(class, clerkv1alpha1.ConditionTenantsReady, status, reason, message)
	}
	slices.Sort(failing)
	switch {
	case len(failing) > 0:
		set(metav1.ConditionFalse, clerkv1alpha1.ReasonTenantsNotReady, fmt.Sprintf(
			"not as the class wants it are %d of its tenants, which say why: %s",
			len(failing), strings.Join(failing[:min(len(failing), maxFailing)], ", ")))
	case *class.Status.Updated < *class.Status.Tenants:
		set(metav1.ConditionUnknown, clerkv1alpha1.ReasonRollingOut, "the class has not been brought to all its tenants yet")
	default:
		set(metav1.ConditionTrue, clerkv1alpha1.ReasonProvisioned, "no tenant says that it is not as the class wants it")
	}
}

// tellOfInstances sets the condition that reports whether a class leaves open which of several instances it is for. Each
// instance's signing secret can then make tenants of the class, the least trusted one's, too.
func tellOfInstances(class *clerkv1alpha1.ClerkTenantClass, instances []clerkv1alpha1.ClerkInstance) {
	set := func(status metav1.ConditionStatus, reason, message string) {
		setCondition(class, clerkv1alpha1.ConditionInstancesSpecified, status, reason, message)
	}
	selector := class.Spec.Selector
	switch {
	case selector == nil:
		set(metav1.ConditionTrue, clerkv1alpha1.ReasonSpecified, "The class has no selector and selects nothing")
	case len(selector.InstanceNames) > 0:
		set(metav1.ConditionTrue, clerkv1alpha1.ReasonSpecified, "spec.selector.instanceNames names the instances of the class")
	case len(instances) <= 1:
		set(metav1.ConditionTrue, clerkv1alpha1.ReasonSpecified, "There is at most one ClerkInstance")
	default:
		names := make([]string, len(instances))
		for i := range instances {
			names[i] = instances[i].Name
		}
		slices.Sort(names)
		set(metav1.ConditionFalse, clerkv1alpha1.ReasonSeveralInstances, fmt.Sprintf(
			"The class is for all of %d ClerkInstances (%s); name the ones that you mean in spec.selector.instanceNames",
			len(names), strings.Join(names[:min(len(names), maxInstancesNamed)], ", ")))
	}
}

// maxInstancesNamed is how many instances a condition names.
const maxInstancesNamed = 5

// isHeld says whether a tenant is left as it is for now, whatever its class says.
func isHeld(o owner) bool {
	ready := meta.FindStatusCondition(*o.GetConditions(), clerkv1alpha1.ConditionAccessReady)
	return ready != nil && (ready.Reason == clerkv1alpha1.ReasonTenantSuspended ||
		ready.Reason == clerkv1alpha1.ReasonObserving || ready.Reason == clerkv1alpha1.ReasonInstanceNotFound)
}

// maxTried is for how many a class's expression is tried out when its state is told.
const maxTried = 100

// unevaluated tells of one of those for whom a class's expression cannot be evaluated: the first, since an expression that
// costs too much is not to be tried on all of them. Those who have been told so themselves are tried before others.
func (r *ClerkTenantClassReconciler) unevaluated(class *clerkv1alpha1.ClerkTenantClass, owners []owner) string {
	if class.Spec.Selector == nil || class.Spec.Selector.Expression == "" {
		return ""
	}
	slices.SortFunc(owners, func(a, b owner) int { return cmp.Compare(a.GetClerkID(), b.GetClerkID()) })
	var told, others []owner
	for _, o := range owners {
		if slices.Contains(passedOverBy(o), class.Name) {
			told = append(told, o)
		} else {
			others = append(others, o)
		}
	}
	owners = append(told, others...)
	for _, o := range owners[:min(len(owners), maxTried)] {
		if _, err := r.selectors.Selects(class, o); err != nil {
			return fmt.Sprintf("; its expression cannot be evaluated for %s, and perhaps others, which it does not select: %v",
				o.GetClerkID(), err)
		}
	}
	return ""
}

// unbindable asks the API server which of the class's ClusterRoles the operator may not bind.
func (r *ClerkTenantClassReconciler) unbindable(
	ctx context.Context, class *clerkv1alpha1.ClerkTenantClass,
) ([]string, error) {
	roles := sets.New[string]()
	for _, entry := range class.Spec.Access {
		roles.Insert(entry.ClusterRoles...)
	}
	var unbindable []string
	for _, role := range sets.List(roles) {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: role,
			},
		}}
		if err := r.client.Create(ctx, review); err != nil {
			return nil, fmt.Errorf("asking whether ClusterRole %s can be bound: %w", role, err)
		}
		if !review.Status.Allowed {
			unbindable = append(unbindable, role)
		}
	}
	return unbindable, nil
}
