// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/instance"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// owner is an object that may have a tenant: a ClerkOrganization, or a ClerkUser alone.
type owner interface {
	conditioned
	tenant.Owner
	GetTenantStatus() *clerkv1alpha1.TenantStatus
}

// tenancy makes tenants of owners: a namespace, what limits it, its Secrets and its RoleBindings. It never touches a
// namespace that is not proven to be the owner's. What it needs to know of an owner's kind, its reconciler tells it.
type tenancy struct {
	base
	// namespace is the operator's own, which Secrets are copied from.
	namespace string
	// secrets says when a Secret is written again although nothing changed: it cannot be read.
	secrets *schedule
	// places says who has been given a place in a class that has only so many.
	places *places
}

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,resourceNames=admin;edit;view,verbs=bind
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// claim is what an owner is to have: what is granted in its tenant depends on all of it.
type claim struct {
	owner owner
	// config is the owner's instance; an empty one when there is none.
	config *clerkv1alpha1.ClerkInstance
	// orphaned says that the owner's ClerkInstance does not exist.
	orphaned bool
	// class is nil when none selects the owner.
	class *clerkv1alpha1.ClerkTenantClass
	// passedOver says which classes might have selected it, and why they could not tell.
	passedOver string
}

// maxPassedOver is how many classes an owner is told of that could not tell whether they select it: a condition has only so
// much room, and each may have cost as much as an evaluation may.
const maxPassedOver = 3

// claimOf collects what decides on an owner's tenant.
func (t *tenancy) claimOf(ctx context.Context, o owner) (c *claim, err error) {
	c = &claim{owner: o}
	if c.config, c.orphaned, err = t.configOf(ctx, o); err != nil {
		return nil, err
	}
	classes, err := t.classesFor(ctx, tenant.KindOf(o))
	if err != nil {
		return nil, err
	}
	if c.class = t.selectors.Select(classes, o); c.class != nil {
		return c, nil
	}
	for i, told := 0, 0; i < len(classes) && told < maxPassedOver; i++ {
		if _, err := t.selectors.Selects(&classes[i], o); err != nil {
			told++
			c.passedOver += passedOver(&classes[i], err)
		}
	}
	return c, nil
}

const passedOverFormat = "; the expression of ClerkTenantClass %s cannot be evaluated for it: "

var passedOverPattern = regexp.MustCompile(fmt.Sprintf(passedOverFormat, `(\S+)`))

// passedOver adds to an owner's condition why a class could not tell.
func passedOver(class *clerkv1alpha1.ClerkTenantClass, err error) string {
	return fmt.Sprintf(passedOverFormat, class.Name) + err.Error()
}

// passedOverBy are the classes that an owner's condition says could not tell whether they select it.
func passedOverBy(o owner) []string {
	condition := meta.FindStatusCondition(*o.GetConditions(), clerkv1alpha1.ConditionNamespaceReady)
	if condition == nil {
		return nil
	}
	var classes []string
	for _, match := range passedOverPattern.FindAllStringSubmatch(condition.Message, -1) {
		classes = append(classes, match[1])
	}
	return classes
}

// configOf returns an owner's instance; an empty one, orphaned, when there is none.
func (b *base) configOf(ctx context.Context, o tenant.Owner) (config *clerkv1alpha1.ClerkInstance, orphaned bool, err error) {
	config, err = b.instances.Get(ctx, o.GetMirrored().InstanceName)
	if errors.Is(err, instance.ErrNotFound) || errors.Is(err, instance.ErrNotConfigured) {
		return &clerkv1alpha1.ClerkInstance{}, true, nil
	}
	return config, false, err
}

// suspended says whether the platform team has taken everybody's access to a tenant away.
func suspended(o tenant.Owner, config *clerkv1alpha1.ClerkInstance) bool {
	return config.Suspended() || o.GetAnnotations()[clerkv1alpha1.AnnotationSuspend] == "true"
}

// provision takes a tenant to where it should be, in order: what limits a tenant comes before what gives access to it.
// granted is who is to hold what there, if the tenant is admitted.
func (t *tenancy) provision(ctx context.Context, c *claim, granted tenant.Grants) error {
	if c.config.Observes() {
		return t.observe(ctx, c, granted)
	}
	c.owner.GetTenantStatus().Plan = clerkv1alpha1.TenantPlan{}
	return t.enforce(ctx, c, granted)
}

func (t *tenancy) enforce(ctx context.Context, c *claim, granted tenant.Grants) (err error) {
	c.owner.GetTenantStatus().PendingTenantClass = ""
	switch {
	case c.class == nil:
		err = t.withoutClass(ctx, c)
	case c.orphaned:
		err = t.orphan(ctx, c, granted)
	case suspended(c.owner, c.config):
		err = t.suspend(ctx, c)
	default:
		return t.brought(c, t.admitted(ctx, c, granted))
	}
	t.places.leave(c.owner.GetUID())
	return err
}

// brought notes which state of the class was brought to a tenant, unless that is tried again.
func (t *tenancy) brought(c *claim, err error) error {
	status := c.owner.GetTenantStatus()
	switch _, stalls := stalledOnly(err); {
	case status.TenantClass == "":
		status.TenantClassGeneration = 0
	case c.class != nil && status.TenantClass == c.class.Name && (err == nil || stalls):
		status.TenantClassGeneration = c.class.Generation
	}
	return err
}

// admitted makes the tenant once its class has a place for it. Who has a namespace, be it one that status does not know
// after a restore, is a tenant already, whatever class it comes from.
func (t *tenancy) admitted(ctx context.Context, c *claim, granted tenant.Grants) error {
	namespace := c.owner.GetTenantStatus().Namespace.Name
	if namespace == "" {
		found, err := t.findNamespace(ctx, c.owner)
		if err != nil {
			return err
		}
		if found != nil {
			namespace = found.Name
		}
	}
	if namespace != "" {
		return t.reconcileTenant(ctx, c, granted)
	}
	had := t.places.has(c.owner.GetUID())
	wait, err := t.admit(ctx, c)
	switch {
	case err != nil:
		return err
	case wait != "":
		return pending(c, wait)
	}
	err = t.reconcileTenant(ctx, c, granted)
	if (errors.Is(err, errBehind) || errors.Is(err, errNotProbed)) && !had {
		t.places.leave(c.owner.GetUID())
	}
	return err
}

// reconcileTenant makes the tenant. What goes wrong with one part does not keep the others from being put right, and
// never keeps access from being taken away.
func (t *tenancy) reconcileTenant(ctx context.Context, c *claim, granted tenant.Grants) error {
	c.owner.GetTenantStatus().TenantClass = c.class.Name
	namespace, err := t.reconcileNamespace(ctx, c, granted)
	if namespace == nil || !namespace.DeletionTimestamp.IsZero() {
		setFailed(c.owner, clerkv1alpha1.ConditionNamespaceReady, err)
		setCondition(c.owner, clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse,
			clerkv1alpha1.ReasonBinding, "there is no namespace to give access to")
		if hasReason(err, clerkv1alpha1.ReasonPoliciesNotEnforced) {
			setFailed(c.owner, clerkv1alpha1.ConditionAccessReady, err)
		}
		if namespace != nil {
			err = errors.Join(err, t.reconcileBindings(ctx, c.owner, namespace.Name, nil))
		}
		return err
	}
	unlimited := errors.Join(err, t.reconcileGuardrails(ctx, c, namespace.Name))
	namespaceErr := errors.Join(unlimited, t.reconcileSecrets(ctx, c, namespace))
	if namespaceErr != nil {
		setFailed(c.owner, clerkv1alpha1.ConditionNamespaceReady, namespaceErr)
	} else {
		setCondition(c.owner, clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionTrue,
			clerkv1alpha1.ReasonProvisioned, "the namespace is as its class wants it"+notAdopted(c.owner, namespace.Name))
	}
	bindingsErr := t.reconcileAccess(ctx, c, namespace.Name, granted, unlimited)
	if bindingsErr != nil {
		setFailed(c.owner, clerkv1alpha1.ConditionAccessReady, bindingsErr)
	} else {
		setCondition(c.owner, clerkv1alpha1.ConditionAccessReady, metav1.ConditionTrue,
			clerkv1alpha1.ReasonProvisioned, "the bindings exist of everybody who has access")
	}
	return errors.Join(namespaceErr, bindingsErr)
}

// reconcileAccess gives people what they are granted. Where what limits the tenant could not be put in place, for whatever
// reason, nobody is given anything that he does not have.
func (t *tenancy) reconcileAccess(
	ctx context.Context, c *claim, namespace string, granted tenant.Grants, unlimited error,
) error {
	if unlimited != nil {
		reason := clerkv1alpha1.ReasonBinding
		if hasReason(unlimited, clerkv1alpha1.ReasonGuardrailRefused) {
			reason = clerkv1alpha1.ReasonGuardrailRefused
		}
		return errors.Join(stalled(reason, recheckInterval, "nobody is given access before what limits the tenant is in place"),
			t.revoke(ctx, c.owner, namespace, granted))
	}
	existing, err := bindingsOf(ctx, t.client, c.owner, namespace)
	if err != nil {
		return err
	}
	desired := tenant.RoleBindings(namespace, c.owner, c.config.UsernamePrefix(), granted)
	if gives(existing, desired) {
		if err := t.gate.check(c.owner); err != nil {
			return errors.Join(err, t.withhold(ctx, c.owner, namespace, granted, err))
		}
	}
	return t.changeBindings(ctx, existing, desired)
}

// orphan keeps a tenant whose ClerkInstance does not exist as it is, but for access that is to be taken away: a user who
// is deleted by hand must not be held by a binding that nobody changes any more.
func (t *tenancy) orphan(ctx context.Context, c *claim, granted tenant.Grants) error {
	orphaned := stalled(clerkv1alpha1.ReasonInstanceNotFound, 0,
		"ClerkInstance %s does not exist; the tenant is kept as it is, and nobody is given access", c.owner.GetMirrored().InstanceName)
	setFailed(c.owner, clerkv1alpha1.ConditionAccessReady, orphaned)
	namespace, err := t.findNamespace(ctx, c.owner)
	if err != nil || namespace == nil {
		return errors.Join(orphaned, err)
	}
	return errors.Join(orphaned, t.revoke(ctx, c.owner, namespace.Name, granted))
}

// suspend takes everybody's access away and keeps all else as it is. A tenant that has no namespace gets none.
func (t *tenancy) suspend(ctx context.Context, c *claim) error {
	by := "the annotation " + clerkv1alpha1.AnnotationSuspend
	if c.config.Suspended() {
		by = "ClerkInstance " + c.owner.GetMirrored().InstanceName
	}
	message := fmt.Sprintf("%s suspends the tenant: nobody has access, and all data is kept", by)
	setCondition(c.owner, clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended, message)
	err := t.revokeAll(ctx, c)
	if err != nil {
		setFailed(c.owner, clerkv1alpha1.ConditionAccessReady, err)
	}
	return errors.Join(stalled(clerkv1alpha1.ReasonTenantSuspended, resyncInterval, "%s", message), err)
}

// withoutClass takes everybody's access away and keeps the data.
func (t *tenancy) withoutClass(ctx context.Context, c *claim) error {
	c.owner.GetTenantStatus().TenantClass, c.owner.GetTenantStatus().TenantClassGeneration = "", 0
	setTenant(c.owner, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass, noClass(c))
	return t.revokeAll(ctx, c)
}

func noClass(c *claim) string { return "no ClerkTenantClass selects it" + c.passedOver }

// tenantConditions are those that an owner has beside Ready if it has, or is to have, a tenant.
var tenantConditions = []string{clerkv1alpha1.ConditionNamespaceReady, clerkv1alpha1.ConditionAccessReady}

// setTenant sets all of them to the same.
func setTenant(o owner, status metav1.ConditionStatus, reason, message string) {
	for _, conditionType := range tenantConditions {
		setCondition(o, conditionType, status, reason, message)
	}
}

// revokeAll takes everybody's access to a tenant away.
func (t *tenancy) revokeAll(ctx context.Context, c *claim) error {
	namespace, err := t.findNamespace(ctx, c.owner)
	if err != nil || namespace == nil {
		return err
	}
	return t.reconcileBindings(ctx, c.owner, namespace.Name, nil)
}

// classesFor returns the classes for a kind of owner, to be read only.
func (b *base) classesFor(ctx context.Context, kind clerkv1alpha1.TenantKind) ([]clerkv1alpha1.ClerkTenantClass, error) {
	var all clerkv1alpha1.ClerkTenantClassList
	if err := b.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing classes: %w", err)
	}
	classes := slices.DeleteFunc(slices.Clone(all.Items), func(class clerkv1alpha1.ClerkTenantClass) bool {
		return class.TenantKind() != kind
	})
	// The cache has no order, and what is told of several must not change from time to time.
	slices.SortFunc(classes, func(a, b clerkv1alpha1.ClerkTenantClass) int { return cmp.Compare(a.Name, b.Name) })
	return classes, nil
}

// classOf returns the class that selects an owner, to be read only; nil when none does.
func (b *base) classOf(ctx context.Context, o tenant.Owner) (*clerkv1alpha1.ClerkTenantClass, error) {
	classes, err := b.classesFor(ctx, tenant.KindOf(o))
	if err != nil {
		return nil, err
	}
	return b.selectors.Select(classes, o), nil
}

// watchTenants lets a controller hear of everything that tenants of a kind are made of or from.
func (t *tenancy) watchTenants(b *builder.Builder, kind clerkv1alpha1.TenantKind) *builder.Builder {
	label := clerkv1alpha1.LabelOrganizationID
	if kind == clerkv1alpha1.TenantsUsers {
		label = clerkv1alpha1.LabelUserID
	}
	toOwner := handler.EnqueueRequestsFromMapFunc(t.labelled(label))
	return b.
		WatchesRawSource(t.gate.onChange(t.gate.waiting(kind))).
		Watches(&clerkv1alpha1.ClerkTenantClass{}, unhurried(handler.EnqueueRequestsFromMapFunc(t.allOf(kind))),
			builder.WithPredicates(specChanged(), isFor(kind))).
		Watches(&corev1.Namespace{}, toOwner, builder.WithPredicates(changed(contentOfNamespace))).
		Watches(&rbacv1.RoleBinding{}, toOwner, builder.WithPredicates(changed(contentOfBinding))).
		Watches(&corev1.ResourceQuota{}, toOwner, builder.WithPredicates(changed(contentOfGuardrail))).
		Watches(&corev1.LimitRange{}, toOwner, builder.WithPredicates(changed(contentOfGuardrail))).
		Watches(&networkingv1.NetworkPolicy{}, toOwner, builder.WithPredicates(changed(contentOfGuardrail))).
		Watches(&corev1.Secret{}, unhurried(handler.EnqueueRequestsFromMapFunc(t.copiedSecret(kind))),
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{}))
}

// allOf leads from anything to every owner of a kind.
func (b *base) allOf(kind clerkv1alpha1.TenantKind) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		all, err := b.owners(ctx, kind)
		if err != nil {
			log.FromContext(ctx).Error(err, "Could not list owners of tenants")
			return nil
		}
		requests := make([]reconcile.Request, 0, len(all))
		for _, o := range all {
			requests = append(requests, requestForOwner(o))
		}
		return requests
	}
}

// isFor passes classes for a kind of owner, and those that were for it.
func isFor(kind clerkv1alpha1.TenantKind) predicate.Predicate {
	is := func(o client.Object) bool { return o.(*clerkv1alpha1.ClerkTenantClass).TenantKind() == kind }
	return predicate.Funcs{
		CreateFunc:  func(e event.CreateEvent) bool { return is(e.Object) },
		DeleteFunc:  func(e event.DeleteEvent) bool { return is(e.Object) },
		GenericFunc: func(e event.GenericEvent) bool { return is(e.Object) },
		UpdateFunc:  func(e event.UpdateEvent) bool { return is(e.ObjectOld) || is(e.ObjectNew) },
	}
}
