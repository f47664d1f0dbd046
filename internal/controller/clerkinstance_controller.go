// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/instance"
)

// countInterval is how often the mirrored objects are counted: a write for each event would double them.
const countInterval = 30 * time.Second

// ClerkInstanceReconciler tells whether an instance's deliveries can be verified, and counts what is mirrored of it. What
// the receiver reports in the same status is the receiver's.
type ClerkInstanceReconciler struct{ base }

// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkinstances,verbs=get;list;watch
// +kubebuilder:rbac:groups=clerk-operator.dev,resources=clerkinstances/status,verbs=patch
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,verbs=get;list;watch

// SetupWithManager watches instances and the Secrets in the operator's namespace.
func (r *ClerkInstanceReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("clerkinstance").
		For(&clerkv1alpha1.ClerkInstance{}, builder.WithPredicates(predicate.Or(specChanged(), changed(backendOfInstance)))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.secretToInstances),
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WatchesRawSource(r.gate.onChange(r.every(&clerkv1alpha1.ClerkInstanceList{}))).
		WithOptions(controllerOptions()).
		Complete(r)
}

// secretToInstances leads from a Secret to the instances that refer to it.
func (b *base) secretToInstances(ctx context.Context, o client.Object) []reconcile.Request {
	var instances clerkv1alpha1.ClerkInstanceList
	if err := b.client.List(ctx, &instances); err != nil {
		log.FromContext(ctx).Error(err, "Could not list instances")
		return nil
	}
	var requests []reconcile.Request
	for i := range instances.Items {
		spec := &instances.Items[i].Spec
		named := func(ref clerkv1alpha1.SecretKeyReference) bool { return ref.Name == o.GetName() }
		if slices.ContainsFunc(spec.Webhook.SigningSecrets, named) || named(spec.BackendAPI.SecretKeyRef) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&instances.Items[i])})
		}
	}
	return requests
}

// Reconcile takes one instance's status to where it should be.
func (r *ClerkInstanceReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	config := &clerkv1alpha1.ClerkInstance{}
	if err := r.client.Get(ctx, req.NamespacedName, config); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !config.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // it has no finalizer of ours: what is mirrored is kept as it is
	}
	before := config.DeepCopy()
	defer func() { result, err = r.finish(ctx, before, config, result, err) }()
	verifiers, problems, err := r.instances.Verifiers(ctx, config)
	if err != nil {
		return ctrl.Result{}, err
	}
	config.Status.ObservedGeneration = config.Generation
	r.gate.tell(config)
	config.Status.WebhookPath = clerkv1alpha1.WebhookPath + "/" + config.Name
	if err := r.count(ctx, config); err != nil {
		return ctrl.Result{}, err
	}
	reconcileInstanceConditions(config, len(verifiers), problems)
	return ctrl.Result{RequeueAfter: countInterval}, nil
}

func reconcileInstanceConditions(config *clerkv1alpha1.ClerkInstance, usable int, problems []instance.Problem) {
	if len(problems) == 0 {
		setCondition(config, clerkv1alpha1.ConditionSigningSecretsReady, metav1.ConditionTrue,
			clerkv1alpha1.ReasonSigningSecretsUsable, "every signing secret can be used")
	} else {
		setCondition(config, clerkv1alpha1.ConditionSigningSecretsReady, metav1.ConditionFalse,
			clerkv1alpha1.ReasonSigningSecretUnusable, instance.Describe(problems))
	}
	if usable == 0 {
		setReady(config, metav1.ConditionFalse, clerkv1alpha1.ReasonNoUsableSigningSecret,
			"deliveries are answered with 500: "+instance.Describe(problems))
		return
	}
	if backend := meta.FindStatusCondition(config.Status.Conditions, clerkv1alpha1.ConditionBackendAPIReady); backend != nil &&
		backend.Status == metav1.ConditionFalse && needsSomebody(backend.Reason) {
		setReady(config, metav1.ConditionFalse, backend.Reason, backend.Message)
		return
	}
	setReady(config, metav1.ConditionTrue, clerkv1alpha1.ReasonReceiving,
		fmt.Sprintf("deliveries are received at %s", config.Status.WebhookPath))
}

// backendOfInstance is what the sync has found out about the Backend API's key.
func backendOfInstance(o client.Object) any {
	return meta.FindStatusCondition(o.(*clerkv1alpha1.ClerkInstance).Status.Conditions, clerkv1alpha1.ConditionBackendAPIReady)
}

// count counts the instance's mirrored objects in the cache.
func (r *ClerkInstanceReconciler) count(ctx context.Context, config *clerkv1alpha1.ClerkInstance) error {
	var users clerkv1alpha1.ClerkUserList
	var organizations clerkv1alpha1.ClerkOrganizationList
	var memberships clerkv1alpha1.ClerkOrganizationMembershipList
	for _, list := range []client.ObjectList{&users, &organizations, &memberships} {
		err := r.client.List(ctx, list, client.MatchingFields{indexInstanceName: config.Name}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return fmt.Errorf("counting %T: %w", list, err)
		}
	}
	config.Status.Counts = clerkv1alpha1.ClerkInstanceCounts{
		Users:         count(len(users.Items)),
		Organizations: count(len(organizations.Items)),
		Memberships:   count(len(memberships.Items)),
	}
	return nil
}

// count is a number of objects as status holds it.
func count(n int) *int32 {
	return new(int32(n)) //nolint:gosec // no cluster holds 2^31 objects
}
