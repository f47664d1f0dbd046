// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/mirror"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// +kubebuilder:rbac:groups="",resources=resourcequotas;limitranges,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete

// reconcileGuardrails makes what limits a tenant exactly what its class wants.
func (t *tenancy) reconcileGuardrails(ctx context.Context, c *claim, namespace string) error {
	desired, err := tenant.BuildGuardrails(namespace, c.owner, c.class)
	if err != nil {
		return stalled(clerkv1alpha1.ReasonGuardrailRefused, 0, "ClerkTenantClass %s: %v", c.class.Name, err)
	}
	mine := managedIn(namespace, c.owner)
	var quotas corev1.ResourceQuotaList
	var limits corev1.LimitRangeList
	var policies networkingv1.NetworkPolicyList
	for _, list := range []client.ObjectList{&quotas, &limits, &policies} {
		if err := t.client.List(ctx, list, mine...); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
	}
	wantedQuotas := map[string]*corev1ac.ResourceQuotaApplyConfiguration{}
	if desired.Quota != nil {
		wantedQuotas[tenant.QuotaName] = desired.Quota
	}
	wantedLimits := map[string]*corev1ac.LimitRangeApplyConfiguration{}
	if desired.Limits != nil {
		wantedLimits[tenant.LimitsName] = desired.Limits
	}
	wantedPolicies := map[string]*networkingv1ac.NetworkPolicyApplyConfiguration{}
	for _, policy := range desired.Policies {
		wantedPolicies[*policy.Name] = policy
	}
	return errors.Join(
		converge(ctx, t.client, quotas.Items, wantedQuotas, corev1ac.ExtractResourceQuota),
		converge(ctx, t.client, limits.Items, wantedLimits, corev1ac.ExtractLimitRange),
		converge(ctx, t.client, policies.Items, wantedPolicies, networkingv1ac.ExtractNetworkPolicy),
	)
}

// managedIn selects what the operator made for an owner in its namespace.
func managedIn(namespace string, o tenant.Owner) []client.ListOption {
	return []client.ListOption{client.InNamespace(namespace), client.MatchingLabels{
		clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy,
		tenant.OwnerLabel(o):         o.GetClerkID(),
	}}
}

// converge makes the managed objects of a kind the wanted ones: it applies those that differ, and deletes those that
// are not wanted.
func converge[T any, P interface {
	*T
	client.Object
}, A runtime.ApplyConfiguration](
	ctx context.Context, c client.Client, existing []T, wanted map[string]A, extract func(P, string) (A, error),
) error {
	var errs []error
	found := map[string]P{}
	for i := range existing {
		object := P(&existing[i])
		found[object.GetName()] = object
		if _, ok := wanted[object.GetName()]; !ok {
			errs = append(errs, mirror.DeleteObject(ctx, c, object))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		desired := wanted[name]
		err := convergeOne(ctx, c, found[name], desired, extract)
		switch {
		case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			errs = append(errs, stalled(clerkv1alpha1.ReasonGuardrailRefused, recheckInterval,
				"the API server refuses %s as its class wants it: %v", name, err))
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			// The namespace's deletion brings the organization back here.
		case err != nil:
			errs = append(errs, fmt.Errorf("applying %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// convergeOne makes an object, nil where there is none, the desired one: it applies what differs, and takes away what
// somebody added to its spec, since an apply leaves what it does not name.
func convergeOne[T any, P interface {
	*T
	client.Object
}, A runtime.ApplyConfiguration](
	ctx context.Context, c client.Client, object P, desired A, extract func(P, string) (A, error),
) error {
	if object == nil {
		return c.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership)
	}
	owned, err := extract(object, tenant.FieldOwner)
	if err != nil {
		return fmt.Errorf("reading what is owned of it: %w", err)
	}
	if !equality.Semantic.DeepEqual(owned, desired) {
		if err := c.Apply(ctx, desired, client.FieldOwner(tenant.FieldOwner), client.ForceOwnership); err != nil {
			return err
		}
	}
	var actual, want struct{ Spec map[string]any }
	if err := errors.Join(convert(object, &actual), convert(desired, &want)); err != nil {
		return err
	}
	added := additions(actual.Spec, want.Spec)
	if len(added) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"spec": added})
	if err != nil {
		return err
	}
	return client.IgnoreNotFound(c.Patch(ctx, object.DeepCopyObject().(client.Object),
		client.RawPatch(types.MergePatchType, patch), client.FieldOwner(tenant.FieldOwner)))
}

// additions returns a merge patch that takes from a spec what the wanted one does not have. Lists are owned as a whole, so
// that nothing is added to them.
func additions(actual, want map[string]any) map[string]any {
	patch := map[string]any{}
	for key, value := range actual {
		wanted, ok := want[key]
		if !ok {
			patch[key] = nil
			continue
		}
		inner, isMap := value.(map[string]any)
		wantedInner, _ := wanted.(map[string]any)
		if nested := additions(inner, wantedInner); isMap && len(nested) > 0 {
			patch[key] = nested
		}
	}
	return patch
}

// contentOfGuardrail is what of a guardrail is the operator's business. A quota's status, which changes with every pod,
// is not.
func contentOfGuardrail(o client.Object) any {
	var spec any
	switch o := o.(type) {
	case *corev1.ResourceQuota:
		spec = o.Spec
	case *corev1.LimitRange:
		spec = o.Spec
	case *networkingv1.NetworkPolicy:
		spec = o.Spec
	}
	return []any{o.GetLabels(), spec, o.GetDeletionTimestamp().IsZero()}
}
