// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// teardown takes the tenant of an owner away that Clerk deleted, as its tombstone says: access at once, then what cascade
// deletes, then the namespace after the grace. It ends by letting the owner go. It never waits for the instance or the class
// to be there.
func (t *tenancy) teardown(
	ctx context.Context, o owner, tombstone *clerkv1alpha1.ClerkTombstone, cascade, release func() error,
) (ctrl.Result, error) {
	config, _, err := t.configOf(ctx, o)
	if err != nil {
		return ctrl.Result{}, err
	}
	if config.Observes() {
		if left, err := t.observeTeardown(ctx, o, tombstone); err != nil || left {
			return ctrl.Result{RequeueAfter: resyncInterval}, err
		}
	}
	o.GetTenantStatus().Plan = clerkv1alpha1.TenantPlan{}
	namespace, again, err := t.disconnect(ctx, o)
	if err != nil || again {
		return ctrl.Result{RequeueAfter: catchUpInterval}, err
	}
	setCondition(o, clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse,
		clerkv1alpha1.ReasonDeleting, "Access is revoked: it was deleted in Clerk")
	if err := cascade(); err != nil {
		return ctrl.Result{}, err
	}
	if namespace != nil {
		if result, done, err := t.demolish(ctx, o, tombstone, config, namespace); err != nil || !done {
			return result, err
		}
	}
	t.forget(o)
	return ctrl.Result{}, release()
}

// leave takes the access to an owner's tenant away and lets the owner go: the owner is deleted here and not in Clerk, whatever
// deleted it, and the namespace with its data is to be found when it is back. In mode Observe, too: nothing would take the
// access away of an owner that does not come back.
func (t *tenancy) leave(ctx context.Context, o owner, release func() error) (ctrl.Result, error) {
	namespace, again, err := t.disconnect(ctx, o)
	if err != nil || again {
		return ctrl.Result{RequeueAfter: catchUpInterval}, err
	}
	left := setCondition(o, clerkv1alpha1.ConditionAccessReady, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting,
		"Access is revoked and data is kept: the object was deleted here and not in Clerk")
	if namespace != nil && left {
		t.tellRetained(o, namespace, "the object was deleted here and not in Clerk")
	}
	t.forget(o)
	return ctrl.Result{}, release()
}

// tellRetained tells why the namespace of an owner that goes is kept.
func (t *tenancy) tellRetained(o owner, namespace *corev1.Namespace, why string) {
	t.recorder.Eventf(o, nil, corev1.EventTypeNormal, "NamespaceRetained", "Reconcile", "Namespace %s is kept: %s", namespace.Name, why)
}

// forget drops what is remembered of an owner that goes.
func (t *tenancy) forget(o owner) {
	t.secrets.forget(o.GetUID())
	t.places.leave(o.GetUID())
}

// disconnect takes everybody's access to a deleted owner's tenant away and returns the namespace, nil when there is none.
// again says that not all of the access is gone yet.
func (t *tenancy) disconnect(ctx context.Context, o owner) (namespace *corev1.Namespace, again bool, err error) {
	namespace, err = t.findNamespace(ctx, o)
	if _, stalls := stalledOnly(err); stalls {
		// What has the name is not ours: there is nothing to take access to any more, and nothing to delete.
		namespace, err = nil, nil
	}
	if err == nil && namespace == nil {
		namespace, err = t.findCreated(ctx, o)
	}
	if err != nil || namespace == nil {
		return nil, false, err
	}
	again, err = t.removeBindings(ctx, o, namespace.Name)
	return namespace, again, err
}

// findCreated finds what was created just before a deletion and the cache may not have seen yet. Where users get no
// namespaces, none is looked for.
func (t *tenancy) findCreated(ctx context.Context, o owner) (*corev1.Namespace, error) {
	if kind := tenant.KindOf(o); kind == clerkv1alpha1.TenantsUsers {
		if classes, err := t.classesFor(ctx, kind); err != nil || len(classes) == 0 {
			return nil, err
		}
	}
	return t.findLive(ctx, o)
}

// demolish deletes the namespace of a deleted owner after the grace, unless it is to be kept, or suspended: then all data
// is kept, lest a flood of forged deletions does harm before somebody could stop it. It is done when there is nothing
// left to wait for.
func (t *tenancy) demolish(
	ctx context.Context, o owner, tombstone *clerkv1alpha1.ClerkTombstone, config *clerkv1alpha1.ClerkInstance,
	namespace *corev1.Namespace,
) (result ctrl.Result, done bool, err error) {
	if unproven, err := t.isUnproven(o, namespace); err != nil || unproven {
		return ctrl.Result{}, false, err
	}
	if err := t.ensureCurrent(ctx, o, config); err != nil {
		return ctrl.Result{}, false, err
	}
	deleteAt, keep, err := t.fate(ctx, o, tombstone, namespace)
	switch {
	case err != nil:
		return ctrl.Result{}, false, err
	case keep != "":
		t.tellRetained(o, namespace, keep)
		return ctrl.Result{}, true, nil
	}
	if wait := deleteAt.Sub(t.clock.Now()); wait > 0 {
		setReady(o, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting, fmt.Sprintf(
			"access is gone; namespace %s is deleted at %s unless the annotation %s is set to true",
			namespace.Name, deleteAt.UTC().Format(time.RFC3339), clerkv1alpha1.AnnotationRetain))
		return ctrl.Result{RequeueAfter: wait}, false, nil
	}
	if suspended(o, config) && namespace.DeletionTimestamp.IsZero() {
		setReady(o, metav1.ConditionFalse, clerkv1alpha1.ReasonTenantSuspended, fmt.Sprintf(
			"access is gone; namespace %s is kept while the tenant or its ClerkInstance is suspended", namespace.Name))
		return ctrl.Result{RequeueAfter: resyncInterval}, false, nil
	}
	// Clerk's word may have been taken back while all this was looked at.
	if tombstone, err := mirror.TombstoneOf(ctx, t.live, o.GetMirrored().InstanceName, o.GetClerkID()); err != nil || tombstone == nil {
		return ctrl.Result{}, false, cmp.Or(err, errBehind)
	}
	result, err = t.deleteNamespace(ctx, o, namespace)
	return result, false, err
}

// isUnproven reports whether a namespace that a deleted owner's status does not record only looks like the owner's, for all
// that is known while the policies are not in force. A change of that brings the owner back.
func (t *tenancy) isUnproven(o owner, namespace *corev1.Namespace) (bool, error) {
	if namespace.UID == o.GetTenantStatus().Namespace.UID {
		return false, nil
	}
	err := t.gate.check(o)
	if _, stalls := stalledOnly(err); !stalls {
		return false, err
	}
	setReady(o, metav1.ConditionFalse, clerkv1alpha1.ReasonPoliciesNotEnforced, fmt.Sprintf(
		"access is gone; namespace %s looks like the tenant's, which nothing proves while the admission policies are not in force",
		namespace.Name))
	return true, nil
}

// removeBindings deletes the managed bindings of a namespace and says whether there were any. The list is a live one: a
// binding that the cache has not seen yet would stay behind, with nobody left to remove it.
func (t *tenancy) removeBindings(ctx context.Context, o owner, namespace string) (left bool, err error) {
	bindings, err := bindingsOf(ctx, t.live, o, namespace)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, binding := range bindings {
		errs = append(errs, t.deleteBinding(ctx, binding))
	}
	return len(bindings) > 0, errors.Join(errs...)
}

// fate says until when the namespace of a deleted owner is kept, or why it is kept for good. The grace counts from when both
// the object and Clerk's word for it were there, by the API server's clock.
func (t *tenancy) fate(
	ctx context.Context, o owner, tombstone *clerkv1alpha1.ClerkTombstone, namespace *corev1.Namespace,
) (deleteAt time.Time, keep string, err error) {
	status := o.GetTenantStatus()
	switch {
	case o.GetAnnotations()[clerkv1alpha1.AnnotationRetain] == "true":
		return time.Time{}, "the annotation " + clerkv1alpha1.AnnotationRetain + " is set", nil
	case ptr.Deref(status.Namespace.Adopted, false), isAdopted(namespace, o):
		return time.Time{}, "it was there before and was adopted", nil
	}
	class, err := t.lastClassOf(ctx, o)
	switch {
	case err != nil:
		return time.Time{}, "", err
	case class == nil && status.TenantClass != "":
		return time.Time{}, "its ClerkTenantClass " + status.TenantClass + " is gone", nil
	case class == nil:
		return time.Time{}, "no ClerkTenantClass said that it may be deleted", nil
	case class.DeletionPolicy() == clerkv1alpha1.DeletionRetain:
		return time.Time{}, "ClerkTenantClass " + class.Name + " retains namespaces", nil
	}
	from := o.GetDeletionTimestamp().Time
	if tombstone.CreationTimestamp.After(from) {
		from = tombstone.CreationTimestamp.Time
	}
	return from.Add(class.GracePeriod()), "", nil
}

// lastClassOf returns the class that a deleted owner's namespace is of, as it is now; nil when there is none any more. A
// namespace that is not recorded was made a moment ago, as the owner was being deleted, by the class that selects it now.
func (t *tenancy) lastClassOf(ctx context.Context, o owner) (*clerkv1alpha1.ClerkTenantClass, error) {
	status := o.GetTenantStatus()
	name := status.TenantClass
	if name == "" && status.Namespace.Name == "" {
		selected, err := t.classOf(ctx, o)
		if err != nil || selected == nil {
			return nil, err
		}
		name = selected.Name
	}
	if name == "" {
		return nil, nil
	}
	class := &clerkv1alpha1.ClerkTenantClass{}
	err := t.live.Get(ctx, client.ObjectKey{Name: name}, class)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ClerkTenantClass %s: %w", name, err)
	}
	return class, nil
}

// deleteNamespace deletes the namespace and waits for it to be gone. Finalizers of others in it are theirs to remove.
func (t *tenancy) deleteNamespace(ctx context.Context, o owner, namespace *corev1.Namespace) (ctrl.Result, error) {
	if namespace.DeletionTimestamp.IsZero() {
		protected, err := t.protects(ctx, o, namespace)
		if err != nil {
			return ctrl.Result{}, err
		}
		if protected != "" {
			setReady(o, metav1.ConditionFalse, clerkv1alpha1.ReasonProtected, fmt.Sprintf(
				"access is gone; namespace %s is kept until the annotation %s is removed from the %s",
				namespace.Name, clerkv1alpha1.AnnotationProtected, protected))
			return ctrl.Result{RequeueAfter: recheckInterval}, nil
		}
		// As it was read: what was changed since may be an annotation that is to keep it.
		exactly := client.Preconditions{UID: &namespace.UID, ResourceVersion: &namespace.ResourceVersion}
		if err := t.client.Delete(ctx, namespace, exactly); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("deleting namespace %s: %w", namespace.Name, err)
		}
	}
	message := fmt.Sprintf("waiting for namespace %s to be gone", namespace.Name)
	var remaining []string
	for _, condition := range namespace.Status.Conditions {
		if condition.Status == corev1.ConditionTrue {
			remaining = append(remaining, condition.Message)
		}
	}
	if len(remaining) > 0 {
		message += ": " + strings.Join(remaining, "; ")
	}
	setReady(o, metav1.ConditionFalse, clerkv1alpha1.ReasonDeleting, message[:min(len(message), 4096)])
	setCondition(o, clerkv1alpha1.ConditionNamespaceReady, metav1.ConditionFalse,
		clerkv1alpha1.ReasonDeleting, "the namespace is being deleted")
	return ctrl.Result{RequeueAfter: recheckInterval}, nil
}

// protects says whose annotation keeps a namespace from being deleted: the owner's or the namespace's; nothing when none
// does. The owner's was copied to the namespace, for the API server to see, and goes from there with the owner's.
func (t *tenancy) protects(ctx context.Context, o owner, namespace *corev1.Namespace) (string, error) {
	switch {
	case o.GetAnnotations()[clerkv1alpha1.AnnotationProtected] == "true":
		return "mirrored object", nil
	case namespace.Annotations[clerkv1alpha1.AnnotationProtected] != "true":
		return "", nil
	}
	owned, err := ownedOf(namespace)
	switch {
	case err != nil:
		return "", err
	case owned.Annotations[clerkv1alpha1.AnnotationProtected] == "":
		return "namespace", nil
	}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil,
		`{"metadata":{"resourceVersion":%q,"annotations":{%q:null}}}`, namespace.ResourceVersion, clerkv1alpha1.AnnotationProtected))
	if err := t.client.Patch(ctx, namespace, patch); err != nil {
		return "", fmt.Errorf("unprotecting namespace %s: %w", namespace.Name, err)
	}
	return "", nil
}
