// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TenantKind is what of Clerk becomes a tenant.
// +kubebuilder:validation:Enum=Organizations;Users
type TenantKind string

const (
	// TenantsOrganizations is for a namespace that the members of an organization share.
	TenantsOrganizations TenantKind = "Organizations"
	// TenantsUsers is for a namespace that a user has alone.
	TenantsUsers TenantKind = "Users"
)

// RoleOwner is the role that a user has in a namespace of the user's own.
const RoleOwner = "owner"

// ClerkTenantClassSpec says which organizations become tenants, and what such a tenant gets.
// +kubebuilder:validation:XValidation:rule="!has(self.appliesTo) || self.appliesTo != 'Users' || !has(self.selector.organizationIDs)",message="a class for users selects no organizations; use selector.expression with user"
// +kubebuilder:validation:XValidation:rule="!has(self.appliesTo) || self.appliesTo != 'Users' || !has(self.access) || self.access.all(a, a.role == 'owner')",message="a user alone has the role owner in a class for users"
type ClerkTenantClassSpec struct {
	// selector says which organizations, or users, the class is for; {} selects all of them. Any Clerk user can create
	// organizations, so to select all of them is to let everybody who can sign up have a namespace.
	// +required
	Selector *ClerkTenantClassSelector `json:"selector,omitempty"` //nolint:kubeapilinter // {} is a value: every organization

	// appliesTo is Organizations, or Users for a class that gives every user whom it selects a namespace of the user's own.
	// +optional
	// +kubebuilder:default=Organizations
	AppliesTo TenantKind `json:"appliesTo,omitempty"`

	// priority decides between classes that select the same organization: the highest wins, then the first by name.
	// +optional
	// +kubebuilder:default=0
	Priority *int32 `json:"priority,omitempty"`

	// maxTenants is how many tenants the class may have. Further ones wait with the reason Pending. A place that becomes
	// free goes to the creator who has the fewest tenants of the class, then to the one that was created first in Clerk.
	// Who is a tenant already stays one.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxTenants *int32 `json:"maxTenants,omitempty"`

	// maxTenantsPerCreator is how many of the organizations that one user created may be tenants of the class. Further
	// ones wait with the reason Pending.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxTenantsPerCreator int32 `json:"maxTenantsPerCreator,omitempty"`

	// namespace says how an organization's namespace is named and labelled.
	// +required
	Namespace ClerkTenantClassNamespace `json:"namespace,omitzero"`

	// access maps the roles of Clerk to ClusterRoles, which members then hold in their organization's namespace. A
	// role that is not listed gives no access.
	// +optional
	// +listType=map
	// +listMapKey=role
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=64
	Access []ClerkTenantClassAccess `json:"access,omitempty"`

	// quota bounds what a tenant may use in its namespace: the spec of a ResourceQuota.
	// +optional
	Quota *corev1.ResourceQuotaSpec `json:"quota,omitempty"`

	// limits are the defaults and bounds of a tenant's single containers, pods and claims: the spec of a LimitRange.
	// +optional
	Limits *corev1.LimitRangeSpec `json:"limits,omitempty"`

	// networkIsolation is Isolated for a namespace whose pods reach each other and DNS and nothing else, in either
	// direction, or None. What else they may reach, networkPolicies add. The cluster's network has to enforce
	// NetworkPolicies.
	// +optional
	// +kubebuilder:default=Isolated
	NetworkIsolation NetworkIsolation `json:"networkIsolation,omitempty"`

	// networkPolicies are further NetworkPolicies of every namespace of the class.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=32
	NetworkPolicies []ClerkTenantClassNetworkPolicy `json:"networkPolicies,omitempty"`

	// secrets are copied from the operator's namespace into every namespace of the class, and kept in step. A Secret is
	// only copied if it has the label clerk-operator.dev/share=true.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=32
	Secrets []ClerkTenantClassSecret `json:"secrets,omitempty"`

	// deletion says what happens to the namespace when the organization is deleted. Access always goes at once.
	// +optional
	// +kubebuilder:default={policy: "Delete", gracePeriod: "72h"}
	Deletion ClerkTenantClassDeletion `json:"deletion,omitzero"`
}

// ClerkTenantClassSelector selects organizations. Its parts are ANDed; an empty selector selects every organization.
type ClerkTenantClassSelector struct {
	// instanceNames are the names of the ClerkInstances whose organizations or users the class is for; absent means all.
	// An ID is proof of nothing without its instance: name the instance where there are several.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	InstanceNames []string `json:"instanceNames,omitempty"`

	// organizationIDs are the IDs of the organizations that the class is for.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=5
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^org_[A-Za-z0-9]+$`
	OrganizationIDs []string `json:"organizationIDs,omitempty"`

	// expression is in CEL and true for the organizations that the class is for, such as
	// "organization.publicMetadata.?plan.orValue('') == 'pro'". Of organization it knows organizationID, instanceName,
	// createdBy, maxAllowedMemberships, publicMetadata and plan, the slug of the plan in Clerk Billing that is in force,
	// and nothing else that the organization's own administrators can change. In a class for users it is about user, of
	// which it knows userID, instanceName, externalID, publicMetadata and plan. Where it cannot be
	// evaluated, or costs too much, the class does not select the organization or user.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Expression string `json:"expression,omitempty"`
}

// PodSecurityLevel is a level of the Pod Security Standards.
// +kubebuilder:validation:Enum=privileged;baseline;restricted
type PodSecurityLevel string

const (
	// PodSecurityPrivileged is unrestricted.
	PodSecurityPrivileged PodSecurityLevel = "privileged"
	// PodSecurityBaseline prevents known privilege escalations.
	PodSecurityBaseline PodSecurityLevel = "baseline"
	// PodSecurityRestricted follows current pod hardening practice.
	PodSecurityRestricted PodSecurityLevel = "restricted"
)

// LabelValue is the value of a label.
// +kubebuilder:validation:MinLength=0
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// AnnotationValue is the value of an annotation.
// +kubebuilder:validation:MinLength=0
// +kubebuilder:validation:MaxLength=4096
type AnnotationValue string

// ClerkTenantClassNamespace says how an organization's namespace is named and labelled.
type ClerkTenantClassNamespace struct {
	// prefix begins the name of every namespace of the class. The name is chosen once: a change applies to new tenants.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^[a-z0-9][-a-z0-9]*$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('kube-') && !self.startsWith('openshift')",message="namespaces that begin with kube- or openshift belong to the platform"
	Prefix string `json:"prefix,omitempty"`

	// labels are put on every namespace of the class.
	// +optional
	// +kubebuilder:validation:MinProperties=0
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('clerk-operator.dev/') && !k.contains('kubernetes.io/metadata.name') && !k.startsWith('pod-security.kubernetes.io/') && k != 'app.kubernetes.io/managed-by')",message="labels of clerk-operator.dev, pod-security.kubernetes.io, app.kubernetes.io/managed-by and kubernetes.io/metadata.name are the operator's own; use podSecurity for pod security"
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations are put on every namespace of the class.
	// +optional
	// +kubebuilder:validation:MinProperties=0
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('clerk-operator.dev/'))",message="annotations of clerk-operator.dev are the operator's own"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`

	// podSecurity is the Pod Security Standard that is enforced in the namespace.
	// +optional
	// +kubebuilder:default=restricted
	PodSecurity PodSecurityLevel `json:"podSecurity,omitempty"`
}

// NetworkIsolation says what a tenant's pods can reach and who can reach them.
// +kubebuilder:validation:Enum=Isolated;None
type NetworkIsolation string

const (
	// NetworkIsolated lets a tenant's pods reach each other and DNS, and nothing else.
	NetworkIsolated NetworkIsolation = "Isolated"
	// NetworkOpen leaves a tenant's network as the cluster has it.
	NetworkOpen NetworkIsolation = "None"
)

// ClerkTenantClassNetworkPolicy is a NetworkPolicy of every namespace of a class.
type ClerkTenantClassNetworkPolicy struct {
	// name of the NetworkPolicy, which is clerk-<name> in the namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'isolation'",message="clerk-isolation is the policy of networkIsolation"
	Name string `json:"name,omitempty"`

	// spec of the NetworkPolicy.
	// +required
	Spec *networkingv1.NetworkPolicySpec `json:"spec,omitempty"`
}

// ClerkTenantClassSecret is a Secret of the operator's namespace that tenants get a copy of.
type ClerkTenantClassSecret struct {
	// name of the Secret, there and in the tenant's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self != 'clerk-organization'",message="clerk-organization is the Secret that tells a tenant who it is"
	Name string `json:"name,omitempty"`
}

// ClerkTenantClassAccess maps a role of Clerk to ClusterRoles.
type ClerkTenantClassAccess struct {
	// role is the key of a role in Clerk; org:admin and admin are the same role. In a class for users it is owner.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^(org:)?[A-Za-z0-9_-]+$`
	Role string `json:"role,omitempty"`

	// clusterRoles are existing ClusterRoles that the operator is allowed to bind.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[^/%]+$`
	ClusterRoles []string `json:"clusterRoles,omitempty"`
}

// DeletionPolicy says what happens to a namespace whose organization is deleted.
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

const (
	// DeletionDelete deletes the namespace after the grace period.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionRetain keeps the namespace.
	DeletionRetain DeletionPolicy = "Retain"
)

// DefaultGracePeriod is how long a deleted organization's namespace is kept where the class does not say.
const DefaultGracePeriod = 72 * time.Hour

// ClerkTenantClassDeletion says what happens to the namespace when the organization is deleted.
// +kubebuilder:validation:MinProperties=1
type ClerkTenantClassDeletion struct {
	// policy is Delete, or Retain to keep the namespace.
	// +optional
	// +kubebuilder:default=Delete
	Policy DeletionPolicy `json:"policy,omitempty"`

	// gracePeriod is how long the namespace is kept before it is deleted, as a duration such as 72h; 0s deletes it at
	// once. The organization's object stays, terminating, through the grace.
	// +optional
	// +kubebuilder:default="72h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="gracePeriod must be a duration such as 72h, and not negative"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`
}

// ClerkTenantClassStatus is what the operator makes of the class.
// +kubebuilder:validation:MinProperties=1
type ClerkTenantClassStatus struct {
	// conditions tell the state of the class. Known types: Ready, TenantsReady,
	// InstancesSpecified, PoliciesEnforced.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// tenants is the number of tenants of the class.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Tenants *int32 `json:"tenants,omitempty"`

	// updated is the number of tenants that the present generation of the class has been brought to.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Updated *int32 `json:"updated,omitempty"`

	// pending is the number of those that wait for a place in the class.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Pending *int32 `json:"pending,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cltc,categories=clerk
// +kubebuilder:printcolumn:name="Priority",type=integer,priority=1,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Tenants",type=integer,JSONPath=`.status.tenants`
// +kubebuilder:printcolumn:name="Updated",type=integer,priority=1,JSONPath=`.status.updated`
// +kubebuilder:printcolumn:name="Pending",type=integer,priority=1,JSONPath=`.status.pending`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// ClerkTenantClass is to an organization what a StorageClass is to a volume: the platform team's decision on which
// organizations become tenants, and what they get. An organization that no class selects gets nothing.
type ClerkTenantClass struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says which organizations become tenants, and what they get.
	// +required
	Spec ClerkTenantClassSpec `json:"spec,omitzero"`

	// status is what the operator makes of the class.
	// +optional
	Status ClerkTenantClassStatus `json:"status,omitzero"`
}

// GetConditions returns the conditions, to be changed in place.
func (c *ClerkTenantClass) GetConditions() *[]metav1.Condition { return &c.Status.Conditions }

// TenantKind returns what the class makes tenants of.
func (c *ClerkTenantClass) TenantKind() TenantKind {
	return cmp.Or(c.Spec.AppliesTo, TenantsOrganizations)
}

// DeletionPolicy returns what happens to a namespace whose organization is deleted.
func (c *ClerkTenantClass) DeletionPolicy() DeletionPolicy {
	return cmp.Or(c.Spec.Deletion.Policy, DeletionDelete)
}

// GracePeriod returns how long a deleted organization's namespace is kept.
func (c *ClerkTenantClass) GracePeriod() time.Duration {
	if c.Spec.Deletion.GracePeriod == nil {
		return DefaultGracePeriod
	}
	return c.Spec.Deletion.GracePeriod.Duration
}

// +kubebuilder:object:root=true

// ClerkTenantClassList is a list of ClerkTenantClass.
type ClerkTenantClassList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClerkTenantClass `json:"items"`
}

func init() {
	SchemeBuilder.Register(func(s *runtime.Scheme) error {
		s.AddKnownTypes(SchemeGroupVersion, &ClerkTenantClass{}, &ClerkTenantClassList{})
		return nil
	})
}
