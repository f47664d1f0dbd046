// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ClerkUserSpec mirrors one user of Clerk. What is learned from Clerk writes it; people read it.
// +kubebuilder:validation:XValidation:rule="self.userID == oldSelf.userID && self.instanceName == oldSelf.instanceName",message="userID and instanceName are immutable"
// +kubebuilder:validation:XValidation:rule="self.updatedAt > oldSelf.updatedAt || (self.updatedAt == oldSelf.updatedAt && self.eventTime >= oldSelf.eventTime)",message="(updatedAt, eventTime) must not go back in time"
type ClerkUserSpec struct {
	Mirrored `json:",inline"`

	// userID is the user's ID in Clerk, in its true case.
	// +required
	// +kubebuilder:validation:MinLength=6
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^user_[A-Za-z0-9]+$`
	UserID string `json:"userID,omitempty"`

	// externalID is the user's ID in the system that created it in Clerk.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	ExternalID string `json:"externalID,omitempty"`

	// username is the user's name in Clerk. The user can change it: it grants nothing.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Username string `json:"username,omitempty"`

	// email is the user's primary address. The user can change it: it grants nothing.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	Email string `json:"email,omitempty"`

	// emailVerified is true when Clerk has verified the primary address.
	// +optional
	EmailVerified *bool `json:"emailVerified,omitempty"`

	// firstName is the user's given name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	FirstName string `json:"firstName,omitempty"`

	// lastName is the user's family name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	LastName string `json:"lastName,omitempty"`

	// banned is true when an administrator banned the user in Clerk: the user holds no access.
	// +optional
	Banned *bool `json:"banned,omitempty"`

	// deprovisioned is true when the user's directory removed or disabled the user: the user holds no access.
	// +optional
	Deprovisioned *bool `json:"deprovisioned,omitempty"`

	// publicMetadata is the user's public metadata, which only the application's backend can write.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	PublicMetadata *apiextensionsv1.JSON `json:"publicMetadata,omitempty"`

	// billing is what Clerk Billing says of the user's plan. It comes with events of its own, and so has an order of
	// its own.
	// +optional
	Billing Billing `json:"billing,omitzero"`
}

// ClerkUserState says whether a user may hold access.
// +kubebuilder:validation:Enum=Active;Suspended
type ClerkUserState string

const (
	// ClerkUserActive is a user who may hold access.
	ClerkUserActive ClerkUserState = "Active"
	// ClerkUserSuspended is a user who is banned or deprovisioned and holds no access.
	ClerkUserSuspended ClerkUserState = "Suspended"
)

// ClerkUserStatus is what the operator makes of the user.
// +kubebuilder:validation:MinProperties=1
type ClerkUserStatus struct {
	// conditions tell the state of the user. Known types: Ready, and of a user with a namespace NamespaceReady and
	// AccessReady.
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

	// state is Active, or Suspended when the user is banned or deprovisioned in Clerk.
	// +optional
	State ClerkUserState `json:"state,omitempty"`

	// organizations is the number of organizations that the user is a member of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Organizations *int32 `json:"organizations,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cluser,categories=clerk
// +kubebuilder:selectablefield:JSONPath=`.spec.userID`
// +kubebuilder:selectablefield:JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Email",type=string,JSONPath=`.spec.email`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Orgs",type=integer,JSONPath=`.status.organizations`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Class",type=string,priority=1,JSONPath=`.status.tenantClass`
// +kubebuilder:printcolumn:name="Namespace",type=string,priority=1,JSONPath=`.status.namespace.name`
// +kubebuilder:printcolumn:name="Plan",type=string,priority=1,JSONPath=`.spec.billing.plan`
// +kubebuilder:printcolumn:name="Instance",type=string,priority=1,JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="User-ID",type=string,priority=1,JSONPath=`.spec.userID`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == (self.spec.instanceName == 'default' ? '' : self.spec.instanceName + '.') + self.spec.userID.lowerAscii().replace('_', '-')",message="metadata.name must be spec.userID in lower case with _ replaced by -, after spec.instanceName and a dot unless that is default"

// ClerkUser is the mirror of one user of Clerk. Deleting it by hand takes the user's access away until Clerk's events, or
// its Backend API, bring the user back; to offboard somebody, ban or delete the user in Clerk.
type ClerkUser struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the user's state in Clerk.
	// +required
	Spec ClerkUserSpec `json:"spec,omitzero"`

	// status is what the operator makes of the user.
	// +optional
	Status ClerkUserStatus `json:"status,omitzero"`
}

// GetConditions returns the conditions, to be changed in place.
func (u *ClerkUser) GetConditions() *[]metav1.Condition { return &u.Status.Conditions }

// GetMirrored returns the version and the origin of the mirrored state.
func (u *ClerkUser) GetMirrored() *Mirrored { return &u.Spec.Mirrored }

// GetBilling returns what is known of the user's plan.
func (u *ClerkUser) GetBilling() *Billing { return &u.Spec.Billing }

// GetClerkID returns the user's ID in Clerk.
func (u *ClerkUser) GetClerkID() string { return u.Spec.UserID }

// GetTenantStatus returns what the operator has made of the user's own tenant, to be changed in place.
func (u *ClerkUser) GetTenantStatus() *TenantStatus { return &u.Status.TenantStatus }

// Suspended reports whether Clerk's own state forbids the user any access, or does not say that it allows any: what is
// learned from Clerk always has banned, and absence gives no access. Absent deprovisioned is no, as in Clerk.
func (u *ClerkUser) Suspended() bool {
	return u.Spec.Banned == nil || *u.Spec.Banned || u.Spec.Deprovisioned != nil && *u.Spec.Deprovisioned
}

// +kubebuilder:object:root=true

// ClerkUserList is a list of ClerkUser.
type ClerkUserList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClerkUser `json:"items"`
}

func init() {
	SchemeBuilder.Register(func(s *runtime.Scheme) error {
		s.AddKnownTypes(SchemeGroupVersion, &ClerkUser{}, &ClerkUserList{})
		return nil
	})
}
