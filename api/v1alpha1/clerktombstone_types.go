// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ClerkTombstoneSpec records that an ID was deleted in Clerk, and when. It holds no personal data.
// +kubebuilder:validation:XValidation:rule="self.id == oldSelf.id && self.instanceName == oldSelf.instanceName",message="id and instanceName are immutable"
type ClerkTombstoneSpec struct {
	// instanceName is the name of the ClerkInstance that announced the deletion.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	InstanceName string `json:"instanceName,omitempty"`

	// id is the deleted user's, organization's or membership's ID, in its true case.
	// +required
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^(user|org|orgmem)_[A-Za-z0-9]+$`
	ID string `json:"id,omitempty"`

	// deletedAt is when Clerk made the event that announced the deletion.
	// +required
	DeletedAt Timestamp `json:"deletedAt,omitzero"`
}

// ClerkTombstoneStatus says how long the deletion is remembered.
// +kubebuilder:validation:MinProperties=1
type ClerkTombstoneStatus struct {
	// conditions tell the state of the tombstone. Known types: Ready.
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

	// expiresAt is when the tombstone is removed: 90 days after the deletion, when no delivery from before it can be
	// replayed any more.
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cltomb,categories=clerk
// +kubebuilder:selectablefield:JSONPath=`.spec.id`
// +kubebuilder:selectablefield:JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Clerk-ID",type=string,JSONPath=`.spec.id`
// +kubebuilder:printcolumn:name="Deleted",type=date,JSONPath=`.spec.deletedAt`
// +kubebuilder:printcolumn:name="Expires",type=string,priority=1,JSONPath=`.status.expiresAt`
// +kubebuilder:printcolumn:name="Instance",type=string,priority=1,JSONPath=`.spec.instanceName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == (self.spec.instanceName == 'default' ? '' : self.spec.instanceName + '.') + self.spec.id.lowerAscii().replace('_', '-')",message="metadata.name must be spec.id in lower case with _ replaced by -, after spec.instanceName and a dot unless that is default"

// ClerkTombstone remembers that an ID was deleted in Clerk, so that a late or replayed event cannot bring it back.
type ClerkTombstone struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what was deleted, and when.
	// +required
	Spec ClerkTombstoneSpec `json:"spec,omitzero"`

	// status says how long the deletion is remembered.
	// +optional
	Status ClerkTombstoneStatus `json:"status,omitzero"`
}

// GetConditions returns the conditions, to be changed in place.
func (t *ClerkTombstone) GetConditions() *[]metav1.Condition { return &t.Status.Conditions }

// +kubebuilder:object:root=true

// ClerkTombstoneList is a list of ClerkTombstone.
type ClerkTombstoneList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClerkTombstone `json:"items"`
}

func init() {
	SchemeBuilder.Register(func(s *runtime.Scheme) error {
		s.AddKnownTypes(SchemeGroupVersion, &ClerkTombstone{}, &ClerkTombstoneList{})
		return nil
	})
}
