// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ClerkInstanceMode says whether tenants are made.
// +kubebuilder:validation:Enum=Enforce;Observe
type ClerkInstanceMode string

const (
	// ModeEnforce makes tenants and keeps them.
	ModeEnforce ClerkInstanceMode = "Enforce"
	// ModeObserve mirrors Clerk and tells what would be changed for tenants, and changes nothing there.
	ModeObserve ClerkInstanceMode = "Observe"
)

// ClerkInstanceSpec says how one Clerk application reaches this cluster.
// +kubebuilder:validation:XValidation:rule="!has(self.users) || !has(self.users.mirror) || self.users.mirror != 'Members' || has(self.backendAPI)",message="users.mirror: Members needs a backendAPI, from which a user who joins is read"
type ClerkInstanceSpec struct {
	// instanceID is the Clerk instance that events and the Backend API's key must be of (ins_…). A signed event of another
	// instance is acknowledged, counted and not applied; so is one that names no instance. Without an instanceID it is
	// learned from the Backend API and kept in status.instanceID; without a Backend API, every event that one of the
	// signing secrets verifies is applied.
	// +optional
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^ins_[A-Za-z0-9]+$`
	InstanceID string `json:"instanceID,omitempty"`

	// webhook says how deliveries are verified.
	// +required
	Webhook ClerkInstanceWebhook `json:"webhook,omitzero"`

	// backendAPI is how Clerk's Backend API is read. With it, what webhooks did not deliver is filled in and what is gone
	// from Clerk is removed; without it, there are only webhooks.
	// +optional
	BackendAPI ClerkInstanceBackendAPI `json:"backendAPI,omitzero"`

	// users says what is mirrored of the users.
	// +optional
	Users ClerkInstanceUsers `json:"users,omitzero"`

	// access says who a Clerk user is to the Kubernetes API server.
	// +optional
	// +kubebuilder:default={usernamePrefix: "clerk:"}
	Access ClerkInstanceAccess `json:"access,omitzero"`

	// mode is Enforce, or Observe to mirror Clerk, to tell in the status of organizations and users and in metrics what
	// would be created, changed and deleted for tenants, and to write nothing there: access that is there stays, too.
	// +optional
	// +kubebuilder:default=Enforce
	Mode ClerkInstanceMode `json:"mode,omitempty"`

	// suspend takes everybody's access to the instance's tenants away, makes no new tenants and keeps all data, even of
	// what is deleted in Clerk, until it is false again. Clerk is mirrored as before.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

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

// ClerkInstanceBackendAPI is how Clerk's Backend API is read. The operator only ever sends GET.
type ClerkInstanceBackendAPI struct {
	// secretKeyRef is the key of a Secret in the operator's namespace with the instance's secret key (sk_live_… or
	// sk_test_…).
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef,omitzero"`

	// url is where the Backend API is, without the version in its path. Plain HTTP is for this machine only, since the
	// secret key goes there.
	// +optional
	// +kubebuilder:default="https://api.clerk.com"
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^(https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?)/?$`
	URL string `json:"url,omitempty"`

	// sync says how often Clerk is read and how much one reading may remove.
	// +optional
	// +kubebuilder:default={incremental: "15m", full: "24h", maxDeletions: "1%"}
	Sync ClerkInstanceSync `json:"sync,omitzero"`
}

// ClerkInstanceSync says how often Clerk is read and how much one reading may remove.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.full) || !has(self.incremental) || duration(self.full) >= duration(self.incremental)",message="full (24h where it is not set) must not be more often than incremental (15m where it is not set)"
type ClerkInstanceSync struct {
	// incremental is how often what is new in Clerk is read: changed users, and new organizations and memberships.
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="incremental must be at least 1s"
	Incremental *metav1.Duration `json:"incremental,omitempty"`

	// full is how often everything is read. Only that finds changed organizations, changed roles and deletions.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="full must be at least 1s"
	Full *metav1.Duration `json:"full,omitempty"`

	// maxDeletions is how many objects of a kind one sync may delete, as a number or as a percentage of those that are
	// mirrored, rounded up. Above it nothing is deleted, and the condition PruneHeld says what to do.
	// +optional
	// +kubebuilder:default="1%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 1000000 : self.matches('^(100|[0-9]{1,2})%$')",message="maxDeletions must be a number from 0 to 1000000, or a percentage from 0% to 100%"
	MaxDeletions *intstr.IntOrString `json:"maxDeletions,omitempty"`
}

// UserMirror says which users are mirrored.
// +kubebuilder:validation:Enum=All;Members
type UserMirror string

const (
	// UserMirrorAll mirrors every user.
	UserMirrorAll UserMirror = "All"
	// UserMirrorMembers mirrors the users that are members of some organization.
	UserMirrorMembers UserMirror = "Members"
)

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
	// mirror is All, or Members for the users that are members of some organization only. Members needs a backendAPI: a
	// user who joins is read from there.
	// +optional
	// +kubebuilder:default=All
	Mirror UserMirror `json:"mirror,omitempty"`

	// profile is Full (names, e-mail address, public metadata) or Minimal (IDs and states only). A change applies to
	// the next event of each user and, with a backendAPI, to all of them at once.
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

// ClerkObjectKind is a kind of object in Clerk.
// +kubebuilder:validation:Enum=User;Organization;OrganizationMembership;Subscription;SubscriptionItem;Role
type ClerkObjectKind string

// The kinds of objects in Clerk.
const (
	// ClerkUserObject is a user.
	ClerkUserObject ClerkObjectKind = "User"
	// ClerkOrganizationObject is an organization.
	ClerkOrganizationObject ClerkObjectKind = "Organization"
	// ClerkMembershipObject is an organization membership.
	ClerkMembershipObject ClerkObjectKind = "OrganizationMembership"
	// ClerkSubscriptionObject is a subscription of Clerk Billing.
	ClerkSubscriptionObject ClerkObjectKind = "Subscription"
	// ClerkSubscriptionItemObject is an item of a subscription.
	ClerkSubscriptionItemObject ClerkObjectKind = "SubscriptionItem"
	// ClerkRoleObject is a role of organizations.
	ClerkRoleObject ClerkObjectKind = "Role"
)

// DeliveryFailure is a delivery that was authentic and could not be used, or a part of one. It never holds any of the body
// but an ID.
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

	// kind is what in Clerk could not be used, where id names it.
	// +optional
	Kind ClerkObjectKind `json:"kind,omitempty"`

	// id is the ID in Clerk of what could not be used; absent where the delivery tells none that is valid.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+$`
	ID string `json:"id,omitempty"`

	// reason says in one CamelCase word why the delivery, or the part of it, could not be used.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// time is when the delivery was received.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// ClerkInstanceSyncType is what of Clerk a sync reads.
// +kubebuilder:validation:Enum=Full;Incremental
type ClerkInstanceSyncType string

const (
	// SyncFull reads everything.
	SyncFull ClerkInstanceSyncType = "Full"
	// SyncIncremental reads what is new since the last sync.
	SyncIncremental ClerkInstanceSyncType = "Incremental"
)

// ClerkInstanceSyncStage is how far a sync has come.
// +kubebuilder:validation:Enum=Organizations;Memberships;Users;Deletions;Plans
type ClerkInstanceSyncStage string

// The stages of a sync, in their order.
const (
	// SyncOrganizations lists organizations.
	SyncOrganizations ClerkInstanceSyncStage = "Organizations"
	// SyncMemberships lists organization memberships.
	SyncMemberships ClerkInstanceSyncStage = "Memberships"
	// SyncUsers lists users.
	SyncUsers ClerkInstanceSyncStage = "Users"
	// SyncDeletions asks for each object that was not listed whether it is gone, and deletes it if so.
	SyncDeletions ClerkInstanceSyncStage = "Deletions"
	// SyncPlans lists the items of subscriptions.
	SyncPlans ClerkInstanceSyncStage = "Plans"
)

// ClerkInstanceSyncProgress is a sync that is not finished, and where another leader takes it up. A number that is absent
// is 0.
type ClerkInstanceSyncProgress struct {
	// type is what of Clerk is read.
	// +required
	Type ClerkInstanceSyncType `json:"type,omitempty"`

	// startedAt is when the sync began.
	// +required
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// stage is what is being read.
	// +required
	Stage ClerkInstanceSyncStage `json:"stage,omitempty"`

	// offset is how many objects of the stage's listing have been read.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Offset int64 `json:"offset,omitempty"`

	// after is the last user that has been read.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	After string `json:"after,omitempty"`

	// done is how many objects have been read in all stages.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Done int64 `json:"done,omitempty"`

	// total is how many objects Clerk has, as far as is known.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Total int64 `json:"total,omitempty"`

	// interrupted is true when a page failed or another leader took over. Such a sync deletes nothing, and a full one
	// follows it.
	// +optional
	Interrupted *bool `json:"interrupted,omitempty"`
}

// ClerkInstanceSyncStatus tells of reading Clerk's Backend API.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceSyncStatus struct {
	// state is Synced, Failed, Held (nothing was deleted, see the condition PruneHeld), or what runs and how far it is, such
	// as Full 45%.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	State string `json:"state,omitempty"`

	// lastTime is when the last successful sync began.
	// +optional
	LastTime *metav1.Time `json:"lastTime,omitempty"`

	// lastSuccessTime is when the last successful sync ended.
	// +optional
	LastSuccessTime *metav1.Time `json:"lastSuccessTime,omitempty"`

	// lastFullTime is when the last successful full sync began.
	// +optional
	LastFullTime *metav1.Time `json:"lastFullTime,omitempty"`

	// lastFullUsers is spec.users as it was for the last successful full sync, as mirror/profile.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	LastFullUsers string `json:"lastFullUsers,omitempty"`

	// lastRequest is the value of the annotation clerk-operator.dev/resync-requested-at that was last followed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	LastRequest string `json:"lastRequest,omitempty"`

	// heldDeletions names the deletions that are held. The annotation clerk-operator.dev/release-prune with this value
	// releases them, and no others.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	HeldDeletions string `json:"heldDeletions,omitempty"`

	// skippedCount is how many entries of Clerk's listings the last full sync skipped or stored without a field, and those
	// since; absent for none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	SkippedCount int64 `json:"skippedCount,omitempty"`

	// skipped names the first of these entries.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	Skipped []SkippedEntry `json:"skipped,omitempty"`

	// progress is the sync that is not finished.
	// +optional
	Progress ClerkInstanceSyncProgress `json:"progress,omitzero"`
}

// MaxSkipped is how many skipped entries a ClerkInstance's status names.
const MaxSkipped = 10

// SkippedEntry is an entry of a listing of Clerk's Backend API that a sync skipped or stored without a field. It holds none
// of the entry's content but its ID.
type SkippedEntry struct {
	// kind is the kind of the entry in Clerk.
	// +required
	Kind ClerkObjectKind `json:"kind,omitempty"`

	// id is the ID of the entry in Clerk; absent where the entry has none that is valid.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+$`
	ID string `json:"id,omitempty"`

	// reason says in one CamelCase word why the entry was skipped, or which field is not stored.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
}

// ClerkInstanceStatus is what the operator knows of the instance.
// +kubebuilder:validation:MinProperties=1
type ClerkInstanceStatus struct {
	// conditions tell the state of the instance. Known types: Ready, SigningSecretsReady, PoliciesEnforced, and with a
	// backendAPI BackendAPIReady, Synced, Fresh and PruneHeld.
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

	// instanceID is the Clerk instance that the Backend API's key is of, learned once.
	// +optional
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^ins_[A-Za-z0-9]+$`
	InstanceID string `json:"instanceID,omitempty"`

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

	// roles are the keys of the roles that Clerk's organizations know, as of the last full sync; a class's spec.access maps
	// them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Roles []string `json:"roles,omitempty"`

	// sync tells of reading the Backend API.
	// +optional
	Sync ClerkInstanceSyncStatus `json:"sync,omitzero"`

	// failures are the last deliveries that were authentic and could not be used, wholly or in part, newest last. What fails
	// again for the same reason is listed once.
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
// +kubebuilder:printcolumn:name="Fresh",type=string,JSONPath=`.status.conditions[?(@.type=="Fresh")].status`
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=`.status.counts.users`
// +kubebuilder:printcolumn:name="Orgs",type=integer,JSONPath=`.status.counts.organizations`
// +kubebuilder:printcolumn:name="Sync",type=string,JSONPath=`.status.sync.state`
// +kubebuilder:printcolumn:name="Last-Sync",type=date,priority=1,JSONPath=`.status.sync.lastTime`
// +kubebuilder:printcolumn:name="Last-Event",type=date,priority=1,JSONPath=`.status.lastEventTime`
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

// UserMirror returns which users are mirrored.
func (i *ClerkInstance) UserMirror() UserMirror {
	return cmp.Or(i.Spec.Users.Mirror, UserMirrorAll)
}

// PinnedInstanceID returns the Clerk instance that events and the Backend API's key must be of; empty when that is not
// known.
func (i *ClerkInstance) PinnedInstanceID() string {
	return cmp.Or(i.Spec.InstanceID, i.Status.InstanceID)
}

// Observes says whether tenants are left as they are.
func (i *ClerkInstance) Observes() bool { return i.Spec.Mode == ModeObserve }

// Suspended says whether nobody is to have access to the instance's tenants.
func (i *ClerkInstance) Suspended() bool { return i.Spec.Suspend != nil && *i.Spec.Suspend }

// HasBackendAPI says whether Clerk's Backend API is to be read.
func (i *ClerkInstance) HasBackendAPI() bool { return i.Spec.BackendAPI.SecretKeyRef.Name != "" }

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
