// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/types"
)

// NamespaceReference is a namespace and the proof of which one.
type NamespaceReference struct {
	// name of the namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// uid of the namespace: another namespace of the same name is not this one.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	UID types.UID `json:"uid,omitempty"`

	// adopted is true for a namespace that was there before and was given to the tenant: it is never deleted.
	// +optional
	Adopted *bool `json:"adopted,omitempty"`
}

// TenantPlan is what the operator would change for a tenant if its instance's mode were not Observe.
// +kubebuilder:validation:MinProperties=1
type TenantPlan struct {
	// create is how many objects would be created.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Create *int32 `json:"create,omitempty"`

	// change is how many objects would be changed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Change *int32 `json:"change,omitempty"`

	// delete is how many objects would be deleted.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Delete *int32 `json:"delete,omitempty"`

	// changes are the first of them, each as a verb and an object, such as "create Namespace org-acme-abcde".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Changes []string `json:"changes,omitempty"`
}

// TenantStatus is what the operator has made of a tenant: of an organization, or of a user alone.
// +kubebuilder:validation:MinProperties=1
type TenantStatus struct {
	// tenantClass is the name of the ClerkTenantClass that selects the tenant.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	TenantClass string `json:"tenantClass,omitempty"`

	// tenantClassGeneration is the generation of the class that was last brought to the tenant. Whether the API server
	// accepted all of it, the conditions tell.
	// +optional
	// +kubebuilder:validation:Minimum=1
	TenantClassGeneration int64 `json:"tenantClassGeneration,omitempty"`

	// pendingTenantClass is the name of the ClerkTenantClass that selects the tenant and has no place for it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PendingTenantClass string `json:"pendingTenantClass,omitempty"`

	// namespace is the tenant's namespace. Its name is chosen once and never changes.
	// +optional
	Namespace NamespaceReference `json:"namespace,omitzero"`

	// secretHash is a digest of what was last written to the Secret clerk-organization and to the copies of Secrets. The
	// operator may not read Secrets in tenant namespaces, so this is how it knows that there is nothing to write.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	SecretHash string `json:"secretHash,omitempty"`

	// secrets are the names of the Secrets that were copied into the namespace.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Secrets []string `json:"secrets,omitempty"`

	// plan is what the operator would change, where the instance's mode is Observe.
	// +optional
	Plan TenantPlan `json:"plan,omitzero"`
}
