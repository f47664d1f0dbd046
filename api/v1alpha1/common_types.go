// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// GroupName is the API group of every kind, and the prefix of every label, annotation and finalizer.
const GroupName = "clerk-operator.dev"

// Labels carry the true, mixed-case Clerk IDs, which object names cannot.
const (
	// LabelInstance is the name of the ClerkInstance that an object belongs to.
	LabelInstance = GroupName + "/instance"
	// LabelUserID is a Clerk user ID.
	LabelUserID = GroupName + "/user-id"
	// LabelOrganizationID is a Clerk organization ID.
	LabelOrganizationID = GroupName + "/organization-id"
	// LabelMembershipID is a Clerk organization membership ID.
	LabelMembershipID = GroupName + "/membership-id"

	// LabelShare with the value "true" on a Secret in the operator's namespace lets classes copy it to tenants.
	LabelShare = GroupName + "/share"

	// LabelManagedBy with the value ManagedBy marks everything that the operator made.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy.
	ManagedBy = "clerk-operator"
)

const (
	// AnnotationOwnerUID on a namespace is the UID of the ClerkOrganization or ClerkUser that it was made for. It is written
	// in the call that creates the namespace. That there is one, which only the operator and who manages tenants may write,
	// proves together with name and labels whose the namespace is; after a restore the UID itself can be an old one.
	AnnotationOwnerUID = GroupName + "/owner-uid"
	// AnnotationRetain with the value "true" on a ClerkOrganization or ClerkUser keeps its namespace for good when it is
	// deleted.
	AnnotationRetain = GroupName + "/retain"
	// AnnotationSuspend with the value "true" on a ClerkOrganization, or a ClerkUser with a namespace of its own, takes
	// everybody's access to the tenant away and keeps its data.
	AnnotationSuspend = GroupName + "/suspend"
	// AnnotationProtected with the value "true" on a ClerkOrganization or ClerkUser, or on its namespace, lets nobody
	// delete the namespace until it is removed.
	AnnotationProtected = GroupName + "/protected"
	// AnnotationAdoptNamespace on a ClerkOrganization or ClerkUser names an existing namespace that is to be the
	// tenant's. The namespace has to agree, by AnnotationAdoptBy.
	AnnotationAdoptNamespace = GroupName + "/adopt-namespace"
	// AnnotationAdoptBy on a namespace names the organization or user that may have it: <instance>/<Clerk ID>, where the
	// instance is the name of the ClerkInstance.
	AnnotationAdoptBy = GroupName + "/adopt-by"
	// AnnotationResyncRequestedAt asks for Clerk to be read now. On a ClerkInstance each new value asks for one full sync;
	// on a mirrored object it is removed when the object has been read.
	AnnotationResyncRequestedAt = GroupName + "/resync-requested-at"
	// AnnotationReleasePrune on a ClerkInstance releases the held deletions that status.sync.heldDeletions names.
	AnnotationReleasePrune = GroupName + "/release-prune"
)

const (
	// FinalizerUser holds a ClerkUser until no binding names the user.
	FinalizerUser = GroupName + "/user-access"
	// FinalizerOrganization holds a ClerkOrganization until its access is gone and, where Clerk deleted it, its namespace,
	// which goes after the grace period.
	FinalizerOrganization = GroupName + "/tenant-teardown"
)

const (
	// DefaultInstanceName is the instance that the path /webhooks/clerk and CLERK_WEBHOOK_SECRET stand for.
	DefaultInstanceName = "default"
	// WebhookPath is where deliveries for the default instance are posted; those for another go to WebhookPath/<name>.
	WebhookPath = "/webhooks/clerk"
	// DefaultUsernamePrefix stands before the Clerk user ID in RBAC subjects.
	DefaultUsernamePrefix = "clerk:"
)

// Condition types.
const (
	// ConditionReady is the summary of every kind: True when the object is as it should be.
	ConditionReady = "Ready"
	// ConditionNamespaceReady on a ClerkOrganization is True when its namespace exists, is proven to be its own and
	// carries what its class wants.
	ConditionNamespaceReady = "NamespaceReady"
	// ConditionAccessReady on a ClerkOrganization is True when exactly the bindings that its members should have exist.
	ConditionAccessReady = "AccessReady"
	// ConditionTenantsReady on a ClerkTenantClass is True when none of its tenants says that it is not as the class wants it.
	ConditionTenantsReady = "TenantsReady"
	// ConditionInstancesSpecified on a ClerkTenantClass is False when there are several ClerkInstances and the class does not
	// name those that it is for. It is no part of Ready.
	ConditionInstancesSpecified = "InstancesSpecified"
	// ConditionPoliciesEnforced on a ClerkInstance and a ClerkTenantClass is True when every admission policy of
	// config/policy refuses what it is probed with. It is no part of Ready.
	ConditionPoliciesEnforced = "PoliciesEnforced"
	// ConditionSigningSecretsReady on a ClerkInstance is True when every listed signing secret can be used.
	ConditionSigningSecretsReady = "SigningSecretsReady"
	// ConditionBackendAPIReady on a ClerkInstance is True when Clerk answers the Backend API's key, and the key is of the
	// right instance.
	ConditionBackendAPIReady = "BackendAPIReady"
	// ConditionSynced on a ClerkInstance is True when the last sync read all that it was to read.
	ConditionSynced = "Synced"
	// ConditionFresh on a ClerkInstance is True when webhooks deliver what happens in Clerk: the last sync had nothing to
	// repair and is not overdue.
	ConditionFresh = "Fresh"
	// ConditionPruneHeld on a ClerkInstance is True when more objects are gone from Clerk than one sync may delete.
	ConditionPruneHeld = "PruneHeld"
)

// Reasons that several kinds use.
const (
	// ReasonDeleting says that the object is on its way out; the message says what it waits for.
	ReasonDeleting = "Deleting"
	// ReasonInstanceNotFound says that the ClerkInstance the object came from does not exist; its last state is kept.
	ReasonInstanceNotFound = "InstanceNotFound"
	// ReasonReconcileError says that the last attempt failed for a passing reason and is tried again.
	ReasonReconcileError = "ReconcileError"
)

// Reasons of a ClerkUser's Ready.
const (
	// ReasonActive says that the user may hold access.
	ReasonActive = "Active"
	// ReasonSuspended says that the user is banned or deprovisioned in Clerk and holds no access.
	ReasonSuspended = "Suspended"
	// ReasonRevoking says that bindings which should no longer name the user still do.
	ReasonRevoking = "Revoking"
)

// Reasons of a ClerkOrganization's conditions.
const (
	// ReasonProvisioned says that the namespace and everything in it are as the class wants them.
	ReasonProvisioned = "Provisioned"
	// ReasonNoTenantClass says that no ClerkTenantClass selects the organization, so nothing is provisioned and
	// nobody has access.
	ReasonNoTenantClass = "NoTenantClass"
	// ReasonPending says that the class that selects the organization has as many tenants as it may have.
	ReasonPending = "Pending"
	// ReasonTenantSuspended says that the tenant, or its whole instance, is suspended by the platform team: nobody has
	// access, and the data is kept.
	ReasonTenantSuspended = "TenantSuspended"
	// ReasonObserving says that the instance's mode is Observe: nothing is written, and status.plan tells what would be.
	ReasonObserving = "Observing"
	// ReasonProtected says that an annotation keeps the namespace from being deleted.
	ReasonProtected = "Protected"
	// ReasonPoliciesNotEnforced says that the tenant is given nothing new, since the operator's admission policies are not in
	// force.
	ReasonPoliciesNotEnforced = "PoliciesNotEnforced"
	// ReasonAdoptionRefused says that the namespace that the tenant is to adopt does not exist or does not agree.
	ReasonAdoptionRefused = "AdoptionRefused"
	// ReasonNamespaceConflict says that a namespace with the wanted name exists and is not proven to be this
	// organization's; it is left untouched.
	ReasonNamespaceConflict = "NamespaceConflict"
	// ReasonNamespaceTerminating says that the organization's namespace is being deleted by somebody else.
	ReasonNamespaceTerminating = "NamespaceTerminating"
	// ReasonNamespaceRefused says that the API server refuses the namespace that the class asks for.
	ReasonNamespaceRefused = "NamespaceRefused"
	// ReasonSecretRefused says that the API server refuses the Secret clerk-organization, as when a tenant has made an
	// immutable one of that name.
	ReasonSecretRefused = "SecretRefused"
	// ReasonSecretNotShared says that a Secret that the class copies does not exist in the operator's namespace, or lacks
	// the label that lets it be copied.
	ReasonSecretNotShared = "SecretNotShared"
	// ReasonGuardrailRefused says that the API server refuses a quota, limit or network policy of the class.
	ReasonGuardrailRefused = "GuardrailRefused"
	// ReasonRoleNotBindable says that the operator may not bind a ClusterRole that the class lists.
	ReasonRoleNotBindable = "RoleNotBindable"
)

// Reasons of a ClerkOrganizationMembership's Ready.
const (
	// ReasonBound says that the member's bindings exist.
	ReasonBound = "Bound"
	// ReasonBinding says that the member is to be bound and the bindings do not name the user yet.
	ReasonBinding = "Binding"
	// ReasonWaitingForUser says that no ClerkUser with the member's ID exists (yet).
	ReasonWaitingForUser = "WaitingForUser"
	// ReasonWaitingForOrganization says that no ClerkOrganization with the membership's organization ID exists (yet).
	ReasonWaitingForOrganization = "WaitingForOrganization"
	// ReasonUserSuspended says that the user is banned or deprovisioned.
	ReasonUserSuspended = "UserSuspended"
	// ReasonUserDeleting says that the user is being deleted.
	ReasonUserDeleting = "UserDeleting"
	// ReasonOrganizationDeleting says that the organization is being deleted.
	ReasonOrganizationDeleting = "OrganizationDeleting"
	// ReasonRoleNotMapped says that the organization's class maps the member's role to no ClusterRole.
	ReasonRoleNotMapped = "RoleNotMapped"
	// ReasonSuperseded says that the user has a newer membership of the same organization, which is the one that counts.
	ReasonSuperseded = "Superseded"
)

// Reasons of a ClerkInstance's conditions.
const (
	// ReasonReceiving says that signed events of the instance are accepted.
	ReasonReceiving = "Receiving"
	// ReasonNoUsableSigningSecret says that no listed signing secret can be used; every event is answered with 500.
	ReasonNoUsableSigningSecret = "NoUsableSigningSecret"
	// ReasonSigningSecretsUsable says that every listed signing secret can be used.
	ReasonSigningSecretsUsable = "SigningSecretsUsable"
	// ReasonSigningSecretUnusable says that at least one listed signing secret cannot be used; the message says which
	// and why.
	ReasonSigningSecretUnusable = "SigningSecretUnusable"

	// ReasonAuthenticated says that Clerk accepts the secret key, and that it is the right instance's.
	ReasonAuthenticated = "Authenticated"
	// ReasonSecretKeyUnusable says that the Secret or its key is missing, or that it holds no secret key of Clerk.
	ReasonSecretKeyUnusable = "SecretKeyUnusable" //nolint:gosec // the name of a reason is no credential
	// ReasonSecretKeyRefused says that Clerk refuses the secret key (401 or 403).
	ReasonSecretKeyRefused = "SecretKeyRefused"
	// ReasonWrongInstance says that the secret key is of another Clerk instance than the one that is mirrored.
	ReasonWrongInstance = "WrongInstance"
	// ReasonUnreachable says that Clerk's Backend API cannot be reached.
	ReasonUnreachable = "Unreachable"
	// ReasonRateLimited says that Clerk's Backend API asks to be called less often (429).
	ReasonRateLimited = "RateLimited"
	// ReasonServerError says that Clerk's Backend API answers that it failed (5xx).
	ReasonServerError = "ServerError"
	// ReasonMalformedAnswer says that what the Backend API answers is not what Clerk documents.
	ReasonMalformedAnswer = "MalformedAnswer"
	// ReasonRejected says that the Backend API rejects a request (4xx).
	ReasonRejected = "Rejected"

	// ReasonSynced says that the last sync read all that it was to read.
	ReasonSynced = "Synced"
	// ReasonListingRepeats says that a listing of the Backend API came back with a page that it had before.
	ReasonListingRepeats = "ListingRepeats"
	// ReasonListingIncomplete says that a listing of the Backend API left out what exists.
	ReasonListingIncomplete = "ListingIncomplete"

	// ReasonUpToDate says that webhooks delivered what the last sync read.
	ReasonUpToDate = "UpToDate"
	// ReasonInitialSync says that the first full sync has not finished.
	ReasonInitialSync = "InitialSync"
	// ReasonRepairsNeeded says that a sync had to repair what a webhook should have delivered.
	ReasonRepairsNeeded = "RepairsNeeded"
	// ReasonSyncOverdue says that no sync has succeeded for two intervals.
	ReasonSyncOverdue = "SyncOverdue"

	// ReasonNothingHeld says that nothing waits to be deleted.
	ReasonNothingHeld = "NothingHeld"
	// ReasonTooManyDeletions says that more objects of a kind are gone than one sync may delete.
	ReasonTooManyDeletions = "TooManyDeletions"
)

// Reasons of PoliciesEnforced.
const (
	// ReasonEnforced says that every admission policy refused what it was probed with.
	ReasonEnforced = "Enforced"
	// ReasonNotEnforced says that some admission policy did not; the message says which one and what it let through.
	ReasonNotEnforced = "NotEnforced"
	// ReasonNotProven says that for too long no answer of the API server's has said whether some policy holds; the message
	// has the answer.
	ReasonNotProven = "NotProven"
)

// Reasons of a ClerkTenantClass's and a ClerkTombstone's Ready.
const (
	// ReasonAccepted says that organizations can use the class.
	ReasonAccepted = "Accepted"
	// ReasonRollingOut says that the class has changed and has not been brought to all its tenants yet.
	ReasonRollingOut = "RollingOut"
	// ReasonTenantsNotReady says that some tenants of the class are not as it wants them; the message names some.
	ReasonTenantsNotReady = "TenantsNotReady"
	// ReasonSpecified says that the class names the ClerkInstances that it is for, or that there is no more than one.
	ReasonSpecified = "Specified"
	// ReasonSeveralInstances says that there are several ClerkInstances and the class is for all of them; the message names
	// some.
	ReasonSeveralInstances = "SeveralInstances"
	// ReasonInvalidExpression says that the class's expression is none, so that it selects nothing.
	ReasonInvalidExpression = "InvalidExpression"
	// ReasonRecorded says that the deletion is remembered.
	ReasonRecorded = "Recorded"
)

// Mirrored is what every mirrored kind records of where its state comes from and when that state was true.
// (updatedAt, eventTime) is the version of the state; the API server refuses a write that would lower it.
type Mirrored struct {
	// instanceName is the name of the ClerkInstance whose event or listing this state comes from.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	InstanceName string `json:"instanceName,omitempty"`

	// createdAt is when Clerk created the object.
	// +optional
	CreatedAt *Timestamp `json:"createdAt,omitempty"`

	// updatedAt is Clerk's updated_at: the first part of the version of this state.
	// +required
	UpdatedAt Timestamp `json:"updatedAt,omitzero"`

	// eventTime is when Clerk made the event that carried this state, or when the state was read from its Backend API: the
	// second part of the version.
	// +required
	EventTime Timestamp `json:"eventTime,omitzero"`
}
