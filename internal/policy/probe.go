// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// The policies of config/policy, and their bindings, by name.
const (
	RestrictWrites     = "clerk-operator-restrict-writes"
	RestrictBindings   = "clerk-operator-restrict-bindings"
	RestrictNamespaces = "clerk-operator-restrict-namespaces"
	RestrictSecrets    = "clerk-operator-restrict-secrets"
	ProtectMirror      = "clerk-operator-protect-mirror"
	ProtectTenants     = "clerk-operator-protect-tenants"
	ProtectNamespaces  = "clerk-operator-protect-namespaces"
)

// Message is what a policy's first rule answers to the policy's own probe.
func Message(policy string) string { return "probe of " + policy }

// probeName is the name that a policy reserves for the probe of it.
func probeName(policy string) string { return "probe-of-" + policy }

// Probe is a dry run that one policy refuses, and no other one. Nothing is stored, whatever the answer is.
type Probe struct {
	// Policy is the policy's name.
	Policy string
	// Attempt says what is attempted, as in "it does not refuse …".
	Attempt string
	// Object is what is created; with a Patch, what is changed.
	Object client.Object
	// Patch is a change of an object that exists.
	Patch client.Patch
	// Message is how the refusal ends. Where it is empty, every refusal counts: the rule's message is for people.
	Message string
}

// Answer is what the API server's answer to a probe says of the policy.
type Answer int

// The answers.
const (
	// Unknown says nothing of the policy: the API server did not decide, or something else than the policy refused the probe.
	Unknown Answer = iota
	// Holds says that the probe was refused as it has to be.
	Holds
	// DoesNotHold says that the probe was let through.
	DoesNotHold
)

// Ask makes the dry run.
func (p *Probe) Ask(ctx context.Context, c client.Client) error {
	object := p.Object.DeepCopyObject().(client.Object)
	if p.Patch != nil {
		return c.Patch(ctx, object, p.Patch, client.DryRunAll)
	}
	return c.Create(ctx, object, client.DryRunAll)
}

// Judge says what the answer to a probe means: nil, or the error that Ask returned.
func (p *Probe) Judge(err error) Answer {
	switch {
	case err == nil:
		return DoesNotHold
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return DoesNotHold // it came as far as the storage
	case isDecided(err) && strings.HasSuffix(err.Error(), p.Message):
		return Holds
	default:
		return Unknown
	}
}

// isDecided reports whether an error is the API server's decision on a request, and not a failure to decide: a time-out, an
// error within, too many requests, or an account that it does not know at the moment.
func isDecided(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return code >= http.StatusBadRequest && code < http.StatusInternalServerError
	}
}

// bindableRole is a ClusterRole that config/rbac lets the operator bind: RBAC decides before the policies do.
const bindableRole = "view"

// probeID is an organization's ID that Clerk does not make.
const probeID = "org_probe"

// heldRole is a ClusterRole whose rights Kubernetes gives to every authenticated account. So RBAC lets the operator bind it
// without the verb bind on it.
const heldRole = "system:basic-user"

// managed are the labels of what the operator makes.
func managed() map[string]string {
	return map[string]string{clerkv1alpha1.LabelManagedBy: clerkv1alpha1.ManagedBy}
}

// Probes are all probes, for an operator in a namespace.
func Probes(namespace string) []Probe { return slices.Concat(reserved(namespace), purposes(namespace)) }

// reserved are the probes that nothing but the first rule of each policy refuses.
func reserved(namespace string) []Probe {
	probes := []Probe{
		{Policy: RestrictWrites, Object: &corev1.ResourceQuota{ObjectMeta: meta(namespace, probeName(RestrictWrites), nil)}},
		{Policy: RestrictBindings, Object: binding(namespace, probeName(RestrictBindings), bindableRole)},
		{Policy: RestrictNamespaces, Object: &corev1.Namespace{ObjectMeta: meta("", probeName(RestrictNamespaces), nil)}},
		{Policy: RestrictSecrets, Object: &corev1.Secret{ObjectMeta: meta(namespace, probeName(RestrictSecrets), nil)}},
		{Policy: ProtectMirror, Object: tombstone()},
		{Policy: ProtectTenants, Object: &corev1.ResourceQuota{ObjectMeta: meta(namespace, probeName(ProtectTenants), managed())}},
		{Policy: ProtectNamespaces, Object: tenantNamespace(probeName(ProtectNamespaces))},
	}
	for i := range probes {
		probes[i].Attempt, probes[i].Message = "the probe of it", Message(probes[i].Policy)
	}
	return probes
}

// purposes are probes of what the policies for the operator itself exist for.
func purposes(namespace string) []Probe {
	other := metav1.NamespaceDefault
	if namespace == other {
		other = metav1.NamespaceSystem
	}
	return []Probe{
		{
			Policy: RestrictWrites, Attempt: "a RoleBinding in another namespace",
			Object: binding(other, "clerk-probe", bindableRole),
		},
		{
			Policy: RestrictWrites, Attempt: "a Secret in another namespace",
			Object: &corev1.Secret{ObjectMeta: meta(other, "clerk-probe", managed())},
		},
		{
			Policy: RestrictBindings, Attempt: "a RoleBinding in the operator's own namespace",
			Object: binding(namespace, "clerk-probe", bindableRole),
		},
		{
			Policy: RestrictBindings, Attempt: "a RoleBinding of a ClusterRole that the operator does not have the verb bind on",
			Object: binding(namespace, "clerk-probe-of-roles", heldRole),
		},
		{
			Policy: RestrictNamespaces, Attempt: "a tenant's label on another namespace",
			Object: &corev1.Namespace{ObjectMeta: meta("", other, nil)},
			Patch: client.RawPatch(types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"`+clerkv1alpha1.LabelOrganizationID+`":"`+probeID+`"}}}`)),
		},
		{
			Policy: RestrictSecrets, Attempt: "a Secret without the operator's label",
			Object: &corev1.Secret{ObjectMeta: meta(namespace, "clerk-probe", nil)},
		},
	}
}

func meta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
}

func binding(namespace, name, role string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: meta(namespace, name, nil),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{
			APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: clerkv1alpha1.DefaultUsernamePrefix + "user_probe",
		}},
	}
}

// tombstone is valid, since the schema is checked before the policies, and so are names: it is one of an instance that is
// named as the probe is.
func tombstone() *clerkv1alpha1.ClerkTombstone {
	o := &clerkv1alpha1.ClerkTombstone{ObjectMeta: meta("", probeName(ProtectMirror)+".user-probe", nil)}
	o.Spec.InstanceName, o.Spec.ID = probeName(ProtectMirror), "user_probe"
	o.Spec.DeletedAt = clerkv1alpha1.NewTimestamp(time.Unix(0, 0))
	return o
}

// tenantNamespace is what the policy for the operator's own writes lets through.
func tenantNamespace(name string) *corev1.Namespace {
	o := &corev1.Namespace{ObjectMeta: meta("", name, map[string]string{
		clerkv1alpha1.LabelManagedBy:         clerkv1alpha1.ManagedBy,
		clerkv1alpha1.LabelOrganizationID:    probeID,
		clerkv1alpha1.LabelInstance:          name,
		"pod-security.kubernetes.io/enforce": "restricted",
	})}
	o.Annotations = map[string]string{clerkv1alpha1.AnnotationOwnerUID: "probe"}
	return o
}
