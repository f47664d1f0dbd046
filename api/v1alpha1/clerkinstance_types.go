// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ClerkInstanceSpec says how one Clerk application reaches this cluster.
type ClerkInstanceSpec struct {
	// instanceID is the Clerk instance that events must come from (ins_…). A signed event of another instance is
	// acknowledged, counted and not applied; so is one that names no instance. Without an instanceID, every event
	// that one of the signing secrets verifies is applied.
	// +optional
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^ins_[A-Za-z0-9]+$`
	InstanceID string `json:"instanceID,omitempty"`

	// webhook says how deliveries are verified.
	// +required
	Webhook ClerkInstanceWebhook `json:"webhook,omitzero"`

	// users says what is mirrored of the users.
	// +optional
	Users ClerkInstanceUsers `json:"users,omitzero"`

	// access says who a Clerk user is to the Kubernetes API server.
	// +optional
	// +kubebuilder:default={usernamePrefix: "clerk:"}
	Access ClerkInstanceAccess `json:"access,omitzero"`

	// tenantEnvironment is what tenants are told of the instance in the Secret clerk-organization.
	// +optional
	TenantEnvironment ClerkInstanceTenantEnvironment `json:"tenantEnvironment,omitzero"`
}

// ClerkInstanceWebhook says how deliveries are verified.
type ClerkInstanceWebhook struct {
	// signingSecrets are keys of Secrets in the operator's namespace, each with one signing secret (whsec_…) of the
	// endpoint. Any one of them that verifies a delivery wins, so that a secret is rotated by listing the old and the
	// new one for a while.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	SigningSecrets []SecretKeyReference `json:"signingSecrets,omitempty"`
}

// SecretKeyReference is a key of a Secret in the operator's namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// key in the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// UserProfile says how much of a user is stored in the cluster.
// +kubebuilder:validation:Enum=Full;Minimal
type UserProfile string

const (
	// UserProfileFull mirrors names, e-mail address and public metadata.
	UserProfileFull UserProfile = "Full"
	// UserProfileMinimal mirrors IDs and states only.
	UserProfileMinimal UserProfile = "Minimal"
)

// ClerkInstanceUsers says what is mirrored of the users.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceUsers struct {
	// profile is Full (names, e-mail address, public metadata) or Minimal (IDs and states only). A change applies to
	// the next event of each user.
	// +optional
	// +kubebuilder:default=Full
	Profile UserProfile `json:"profile,omitempty"`
}

// ClerkInstanceAccess says who a Clerk user is to the Kubernetes API server.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceAccess struct {
	// usernamePrefix stands before the Clerk user ID in RBAC subjects, and must be what the API server's
	// authentication configuration puts there.
	// +optional
	// +kubebuilder:default="clerk:"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('system:')",message="the prefix system: is Kubernetes' own"
	UsernamePrefix string `json:"usernamePrefix,omitempty"`
}

// ClerkInstanceTenantEnvironment is what tenants are told of the instance; nothing in it is secret.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceTenantEnvironment struct {
	// publishableKey is the instance's publishable key (pk_live_… or pk_test_…).
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^pk_(live|test)_\S+$`
	PublishableKey string `json:"publishableKey,omitempty"`

	// frontendAPIURL is the instance's Frontend API URL (https://clerk.example.com), which is also its issuer.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^https://[^\s/]+$`
	FrontendAPIURL string `json:"frontendAPIURL,omitempty"`
}

// ClerkInstanceCounts are the mirrored objects of an instance.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceCounts struct {
	// users is the number of ClerkUsers.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Users *int32 `json:"users,omitempty"`

	// organizations is the number of ClerkOrganizations.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Organizations *int32 `json:"organizations,omitempty"`

	// memberships is the number of ClerkOrganizationMemberships.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Memberships *int32 `json:"memberships,omitempty"`
}

// DeliveryFailure is a delivery that was authentic and could not be used. It never holds any of the body.
type DeliveryFailure struct {
	// messageID is the delivery's svix-id, by which it is found in Clerk's dashboard.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	MessageID string `json:"messageID,omitempty"`

	// type is the event's type.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Type string `json:"type,omitempty"`

	// reason says in one CamelCase word why the delivery could not be used.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// time is when the delivery was received.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// ClerkInstanceStatus is what the operator knows of the instance.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceStatus struct {
	// conditions tell the state of the instance. Known types: Ready, SigningSecretsReady.
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

	// webhookPath is the path that Clerk's endpoint must end in.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	WebhookPath string `json:"webhookPath,omitempty"`

	// lastEventTime is when Clerk made the newest event that arrived, to within a minute.
	// +optional
	LastEventTime *Timestamp `json:"lastEventTime,omitempty"`

	// counts are the mirrored objects of the instance, to within a minute.
	// +optional
	Counts ClerkInstanceCounts `json:"counts,omitzero"`

	// failures are the last deliveries that were authentic and could not be used, newest last.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	Failures []DeliveryFailure `json:"failures,omitempty"`
}

// MaxFailures is how many failed deliveries a ClerkInstance's status lists.
const MaxFailures = 20

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=clinst,categories=clerk
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=`.status.counts.users`
// +kubebuilder:printcolumn:name="Orgs",type=integer,JSONPath=`.status.counts.organizations`
// +kubebuilder:printcolumn:name="Last-Event",type=date,JSONPath=`.status.lastEventTime`
// +kubebuilder:printcolumn:name="Path",type=string,priority=1,JSONPath=`.status.webhookPath`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a DNS label of at most 63 characters, since it is a part of the webhook's path and a label value"

// ClerkInstance is one Clerk application. Its webhook endpoint in Clerk is /webhooks/clerk/<metadata.name>.
type ClerkInstance struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says how the Clerk application reaches this cluster.
	// +required
	Spec ClerkInstanceSpec `json:"spec,omitzero"`

	// status is what the operator knows of the instance.
	// +optional
	Status ClerkInstanceStatus `json:"status,omitzero"`
}

// GetConditions returns the conditions, to be changed in place.
func (i *ClerkInstance) GetConditions() *[]metav1.Condition { return &i.Status.Conditions }

// UsernamePrefix returns what stands before a user's ID in RBAC subjects.
func (i *ClerkInstance) UsernamePrefix() string {
	return cmp.Or(i.Spec.Access.UsernamePrefix, DefaultUsernamePrefix)
}

// UserProfile returns how much of a user is mirrored.
func (i *ClerkInstance) UserProfile() UserProfile {
	return cmp.Or(i.Spec.Users.Profile, UserProfileFull)
}

// +kubebuilder:object:root=true

// ClerkInstanceList is a list of ClerkInstance.
type ClerkInstanceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClerkInstance `json:"items"`
}

func init() {
	SchemeBuilder.Register(func(s *runtime.Scheme) error {
		s.AddKnownTypes(SchemeGroupVersion, &ClerkInstance{}, &ClerkInstanceList{})
		return nil
	})
}
