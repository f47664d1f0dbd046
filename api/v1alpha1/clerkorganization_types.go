// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ClerkOrganizationSpec mirrors one organization of Clerk. What is learned from Clerk writes it; people read it.
// +kubebuilder:validation:XValidation:rule="self.organizationID == oldSelf.organizationID && self.instanceName == oldSelf.instanceName",message="organizationID and instanceName are immutable"
// +kubebuilder:validation:XValidation:rule="self.updatedAt > oldSelf.updatedAt || (self.updatedAt == oldSelf.updatedAt && self.eventTime >= oldSelf.eventTime)",message="(updatedAt, eventTime) must not go back in time"
type ClerkOrganizationSpec struct {
	Mirrored `json:",inline"`

	// organizationID is the organization's ID in Clerk, in its true case.
	// +required
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^org_[A-Za-z0-9]+$`
	OrganizationID string `json:"organizationID,omitempty"`

	// name is the organization's name. Its administrators can change it: it is shown, and decides nothing.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name,omitempty"`

	// slug is the organization's slug; absent where Clerk's slugs are off. Its administrators can change it. It is
	// part of the namespace's name when the namespace is created, and decides nothing afterwards.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Slug string `json:"slug,omitempty"`

	// createdBy is the ID of the user who created the organization.
	// +optional
	// +kubebuilder:validation:MinLength=6
	// +kubebuilder:validation:MaxLength=63
	CreatedBy string `json:"createdBy,omitempty"`

	// maxAllowedMemberships is Clerk's limit of members; 0 is no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxAllowedMemberships *int64 `json:"maxAllowedMemberships,omitempty"`

	// publicMetadata is the organization's public metadata, which only the application's backend can write.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	PublicMetadata *apiextensionsv1.JSON `json:"publicMetadata,omitempty"`

	// billing is what Clerk Billing says of the organization's plan. It comes with events of its own, and so has an order of
	// its own.
	// +optional
	Billing Billing `json:"billing,omitzero"`
}

// ClerkOrganizationStatus is what the operator makes of the organization.
// +kubebuilder:validation:MinProperties=1
type ClerkOrganizationStatus struct {
	// conditions tell the state of the tenant. Known types: Ready, NamespaceReady, AccessReady.
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

	TenantStatus `json:",inline"`

	// members is the number of memberships of the organization.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Members *int32 `json:"members,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=clorg,categories=clerk
// +kubebuilder:selectablefield:JSONPath=`.spec.organizationID`
// +kubebuilder:selectablefield:JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Slug",type=string,JSONPath=`.spec.slug`
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.status.tenantClass`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.status.namespace.name`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Plan",type=string,priority=1,JSONPath=`.spec.billing.plan`
// +kubebuilder:printcolumn:name="Instance",type=string,priority=1,JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Organization-ID",type=string,priority=1,JSONPath=`.spec.organizationID`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == (self.spec.instanceName == 'default' ? '' : self.spec.instanceName + '.') + self.spec.organizationID.lowerAscii().replace('_', '-')",message="metadata.name must be spec.organizationID in lower case with _ replaced by -, after spec.instanceName and a dot unless that is default"

// ClerkOrganization is the mirror of one organization of Clerk, and the tenant that a ClerkTenantClass makes of it.
type ClerkOrganization struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the organization's state in Clerk.
	// +required
	Spec ClerkOrganizationSpec `json:"spec,omitzero"`

	// status is what the operator makes of the organization.
	// +optional
	Status ClerkOrganizationStatus `json:"status,omitzero"`
}

// GetConditions returns the conditions, to be changed in place.
func (o *ClerkOrganization) GetConditions() *[]metav1.Condition { return &o.Status.Conditions }

// GetMirrored returns the version and the origin of the mirrored state.
func (o *ClerkOrganization) GetMirrored() *Mirrored { return &o.Spec.Mirrored }

// GetBilling returns what is known of the organization's plan.
func (o *ClerkOrganization) GetBilling() *Billing { return &o.Spec.Billing }

// GetClerkID returns the organization's ID in Clerk.
func (o *ClerkOrganization) GetClerkID() string { return o.Spec.OrganizationID }

// GetTenantStatus returns what the operator has made of the tenant, to be changed in place.
func (o *ClerkOrganization) GetTenantStatus() *TenantStatus { return &o.Status.TenantStatus }

// +kubebuilder:object:root=true

// ClerkOrganizationList is a list of ClerkOrganization.
type ClerkOrganizationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClerkOrganization `json:"items"`
}

func init() {
	SchemeBuilder.Register(func(s *runtime.Scheme) error {
		s.AddKnownTypes(SchemeGroupVersion, &ClerkOrganization{}, &ClerkOrganizationList{})
		return nil
	})
}
