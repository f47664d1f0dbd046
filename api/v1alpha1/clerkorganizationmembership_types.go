// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ClerkOrganizationMembershipSpec mirrors one membership of Clerk: a user, an organization and a role. A user who
// leaves and joins again gets a membership with a new ID.
// +kubebuilder:validation:XValidation:rule="self.membershipID == oldSelf.membershipID && self.organizationID == oldSelf.organizationID && self.userID == oldSelf.userID && self.instanceName == oldSelf.instanceName",message="membershipID, organizationID, userID and instanceName are immutable"
// +kubebuilder:validation:XValidation:rule="self.updatedAt > oldSelf.updatedAt || (self.updatedAt == oldSelf.updatedAt && self.eventTime >= oldSelf.eventTime)",message="(updatedAt, eventTime) must not go back in time"
type ClerkOrganizationMembershipSpec struct {
	Mirrored `json:",inline"`

	// membershipID is the membership's ID in Clerk, in its true case.
	// +required
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^orgmem_[A-Za-z0-9]+$`
	MembershipID string `json:"membershipID,omitempty"`

	// organizationID is the ID of the organization.
	// +required
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^org_[A-Za-z0-9]+$`
	OrganizationID string `json:"organizationID,omitempty"`

	// userID is the ID of the member.
	// +required
	// +kubebuilder:validation:MinLength=6
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^user_[A-Za-z0-9]+$`
	UserID string `json:"userID,omitempty"`

	// role is the key of the member's role, as Clerk writes it (org:admin, or admin in older instances).
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Role string `json:"role,omitempty"`
}

// ClerkOrganizationMembershipStatus is what the operator makes of the membership.
// +kubebuilder:validation:MinProperties=1
type ClerkOrganizationMembershipStatus struct {
	// conditions tell the state of the membership. Known types: Ready.
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

	// clusterRoles are the ClusterRoles that the member is to hold in the organization's namespace.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	ClusterRoles []string `json:"clusterRoles,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=clmem,categories=clerk
// +kubebuilder:selectablefield:JSONPath=`.spec.organizationID`
// +kubebuilder:selectablefield:JSONPath=`.spec.userID`
// +kubebuilder:selectablefield:JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Organization",type=string,JSONPath=`.spec.organizationID`
// +kubebuilder:printcolumn:name="User",type=string,JSONPath=`.spec.userID`
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=`.spec.role`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Instance",type=string,priority=1,JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == (self.spec.instanceName == 'default' ? '' : self.spec.instanceName + '.') + self.spec.membershipID.lowerAscii().replace('_', '-')",message="metadata.name must be spec.membershipID in lower case with _ replaced by -, after spec.instanceName and a dot unless that is default"

// ClerkOrganizationMembership is the mirror of one membership of Clerk: it gives a user the ClusterRoles that the
// organization's class maps the member's role to, in the organization's namespace and nowhere else.
type ClerkOrganizationMembership struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the membership's state in Clerk.
	// +required
	Spec ClerkOrganizationMembershipSpec `json:"spec,omitzero"`

	// status is what the operator makes of the membership.
	// +optional
	Status ClerkOrganizationMembershipStatus `json:"status,omitzero"`
}

// GetConditions returns the conditions, to be changed in place.
func (m *ClerkOrganizationMembership) GetConditions() *[]metav1.Condition {
	return &m.Status.Conditions
}

// GetMirrored returns the version and the origin of the mirrored state.
func (m *ClerkOrganizationMembership) GetMirrored() *Mirrored { return &m.Spec.Mirrored }

// GetClerkID returns the membership's ID in Clerk.
func (m *ClerkOrganizationMembership) GetClerkID() string { return m.Spec.MembershipID }

// +kubebuilder:object:root=true

// ClerkOrganizationMembershipList is a list of ClerkOrganizationMembership.
type ClerkOrganizationMembershipList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClerkOrganizationMembership `json:"items"`
}

func init() {
	SchemeBuilder.Register(func(s *runtime.Scheme) error {
		s.AddKnownTypes(SchemeGroupVersion, &ClerkOrganizationMembership{}, &ClerkOrganizationMembershipList{})
		return nil
	})
}
