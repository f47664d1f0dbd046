// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

const (
	// revocationPriority is above that of everything else, so that taking access away never waits behind giving it.
	revocationPriority = 100
	// rolloutPriority is below that of everything else, so that a change of a class, which comes to all of its tenants,
	// keeps nothing else waiting.
	rolloutPriority = -50
)

// queue is what event handlers fill.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// revoking makes what an event leads to urgent when it takes something away: always when the object went, and when
// takes says so of what it became.
func revoking(inner handler.EventHandler, takes func(client.Object) bool) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: inner.Create,
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if takes(e.ObjectNew) {
				q = prioritized(q, revocationPriority)
			}
			inner.Update(ctx, e, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			inner.Delete(ctx, e, prioritized(q, revocationPriority))
		},
		GenericFunc: inner.Generic,
	}
}

// unhurried lets what an event leads to wait for everything else: a few at once, as workers have nothing better to do.
func unhurried(inner handler.EventHandler) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			inner.Create(ctx, e, prioritized(q, rolloutPriority))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			inner.Update(ctx, e, prioritized(q, rolloutPriority))
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			inner.Delete(ctx, e, prioritized(q, rolloutPriority))
		},
		GenericFunc: func(ctx context.Context, e event.GenericEvent, q queue) {
			inner.Generic(ctx, e, prioritized(q, rolloutPriority))
		},
	}
}

type prioritizedQueue struct {
	priorityqueue.PriorityQueue[reconcile.Request]
	priority int
}

func prioritized(q queue, priority int) queue {
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		return prioritizedQueue{pq, priority}
	}
	return q
}

// Add gives an item the queue's priority.
func (q prioritizedQueue) Add(item reconcile.Request) { q.AddWithOpts(priorityqueue.AddOpts{}, item) }

// AddWithOpts gives items the queue's priority, whatever else is asked for.
func (q prioritizedQueue) AddWithOpts(o priorityqueue.AddOpts, items ...reconcile.Request) {
	o.Priority = &q.priority
	q.PriorityQueue.AddWithOpts(o, items...)
}

func isSuspendedOrDeleting(o client.Object) bool {
	user, ok := o.(*clerkv1alpha1.ClerkUser)
	return ok && (user.Suspended() || !user.DeletionTimestamp.IsZero())
}

// isClosed says whether nobody is to have access to an organization any more, for now or for good.
func isClosed(o client.Object) bool {
	return !o.GetDeletionTimestamp().IsZero() || o.GetAnnotations()[clerkv1alpha1.AnnotationSuspend] == "true"
}

func always(client.Object) bool { return true }

// requestFor is a request for the object that mirrors an ID of an instance.
func requestFor(instanceName, id string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: clerk.ObjectName(instanceName, id)}}
}

// requestForOwner is a request for an owner of a tenant.
func requestForOwner(o tenant.Owner) reconcile.Request {
	return requestFor(o.GetMirrored().InstanceName, o.GetClerkID())
}

// every leads from anything to every object of a list's kind.
func (b *base) every(kind client.ObjectList) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		list := kind.DeepCopyObject().(client.ObjectList)
		var requests []reconcile.Request
		err := b.client.List(ctx, list, client.UnsafeDisableDeepCopy)
		if err == nil {
			err = meta.EachListItem(list, func(o runtime.Object) error {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o.(client.Object))})
				return nil
			})
		}
		if err != nil {
			log.FromContext(ctx).Error(err, "Could not list objects", "kind", fmt.Sprintf("%T", kind))
		}
		return requests
	}
}

// labelled leads from an object to the owner whose ID is in a label: in a label of its namespace, where it is in a tenant's,
// since the labels of what people made there can be any.
func (b *base) labelled(label string) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		labels := b.labelsOfTenant(ctx, o)
		if id := labels[label]; id != "" {
			return []reconcile.Request{requestFor(labels[clerkv1alpha1.LabelInstance], id)}
		}
		return nil
	}
}

// labelsOfTenant returns the labels of the namespace that an object is in, or its own where it is in no tenant's.
func (b *base) labelsOfTenant(ctx context.Context, o client.Object) map[string]string {
	namespace := &corev1.Namespace{}
	if o.GetNamespace() != "" && b.client.Get(ctx, client.ObjectKey{Name: o.GetNamespace()}, namespace) == nil {
		return namespace.Labels
	}
	return o.GetLabels()
}

// tombstoned leads from a tombstone to the object of its ID, if that is of the kind.
func tombstoned(kind clerk.Kind) handler.MapFunc {
	return func(_ context.Context, o client.Object) []reconcile.Request {
		spec := o.(*clerkv1alpha1.ClerkTombstone).Spec
		if k, ok := clerk.KindOf(spec.ID); ok && k == kind {
			return []reconcile.Request{requestFor(spec.InstanceName, spec.ID)}
		}
		return nil
	}
}

func membershipToOrganization(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{toOrganization(o.(*clerkv1alpha1.ClerkOrganizationMembership))}
}

func membershipToUser(_ context.Context, o client.Object) []reconcile.Request {
	m := o.(*clerkv1alpha1.ClerkOrganizationMembership)
	return []reconcile.Request{requestFor(m.Spec.InstanceName, m.Spec.UserID)}
}

// memberships lists memberships from the cache.
func memberships(
	ctx context.Context, reader client.Reader, opts ...client.ListOption,
) ([]clerkv1alpha1.ClerkOrganizationMembership, error) {
	var list clerkv1alpha1.ClerkOrganizationMembershipList
	if err := reader.List(ctx, &list, opts...); err != nil {
		return nil, err
	}
	return list.Items, nil
}

// throughMemberships leads from an object to something of each membership that the options for it select.
func throughMemberships(
	reader client.Reader, options func(client.Object) []client.ListOption,
	to func(*clerkv1alpha1.ClerkOrganizationMembership) reconcile.Request,
) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		items, err := memberships(ctx, reader, append(options(o), client.UnsafeDisableDeepCopy)...)
		if err != nil {
			log.FromContext(ctx).Error(err, "Could not list memberships")
			return nil
		}
		requests := make([]reconcile.Request, 0, len(items))
		for i := range items {
			requests = append(requests, to(&items[i]))
		}
		return requests
	}
}

func ofUser(o client.Object) []client.ListOption {
	return []client.ListOption{client.MatchingFields{indexUserID: o.(*clerkv1alpha1.ClerkUser).Spec.UserID}}
}

func ofOrganization(o client.Object) []client.ListOption {
	return []client.ListOption{
		client.MatchingFields{indexOrganizationID: o.(*clerkv1alpha1.ClerkOrganization).Spec.OrganizationID},
	}
}

func ofAnything(client.Object) []client.ListOption { return nil }

func toOrganization(m *clerkv1alpha1.ClerkOrganizationMembership) reconcile.Request {
	return requestFor(m.Spec.InstanceName, m.Spec.OrganizationID)
}

func toMembership(m *clerkv1alpha1.ClerkOrganizationMembership) reconcile.Request {
	return requestFor(m.Spec.InstanceName, m.Spec.MembershipID)
}

// tombstoneToMemberships leads from a tombstone to the memberships that cannot outlive what it names.
func tombstoneToMemberships(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		spec := o.(*clerkv1alpha1.ClerkTombstone).Spec
		var field string
		switch kind, _ := clerk.KindOf(spec.ID); kind {
		case clerk.KindUser:
			field = indexUserID
		case clerk.KindOrganization:
			field = indexOrganizationID
		default:
			return []reconcile.Request{requestFor(spec.InstanceName, spec.ID)}
		}
		selected := func(client.Object) []client.ListOption {
			return []client.ListOption{client.MatchingFields{field: spec.ID}}
		}
		return throughMemberships(reader, selected, toMembership)(ctx, o)
	}
}

// changedSubjects leads from a binding to the users that were added to it or taken from it, which of hundreds is
// usually one.
func changedSubjects(
	to func(ctx context.Context, binding *rbacv1.RoleBinding, userID string) []reconcile.Request,
) handler.EventHandler {
	enqueue := func(ctx context.Context, q queue, binding *rbacv1.RoleBinding, userIDs sets.Set[string]) {
		for userID := range userIDs {
			for _, request := range to(ctx, binding, userID) {
				q.Add(request)
			}
		}
	}
	subjects := func(o client.Object) sets.Set[string] { return sets.New(subjectUserIDs(o.(*rbacv1.RoleBinding))...) }
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if e.IsInInitialList {
				return // every user and membership is in its own initial list
			}
			enqueue(ctx, q, e.Object.(*rbacv1.RoleBinding), subjects(e.Object))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			enqueue(ctx, q, e.ObjectNew.(*rbacv1.RoleBinding), subjects(e.ObjectOld).SymmetricDifference(subjects(e.ObjectNew)))
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			enqueue(ctx, q, e.Object.(*rbacv1.RoleBinding), subjects(e.Object))
		},
	}
}

// changed passes updates that change what of returns, and everything else.
func changed(of func(client.Object) any) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(of(e.ObjectOld), of(e.ObjectNew))
	}}
}

// specChanged passes updates of the spec, the annotations or the finalizers, and a deletion.
func specChanged() predicate.Predicate {
	return changed(func(o client.Object) any {
		return []any{o.GetGeneration(), o.GetAnnotations(), o.GetFinalizers(), o.GetDeletionTimestamp().IsZero()}
	})
}

// onDelete passes nothing but deletions.
func onDelete() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		UpdateFunc:  func(event.UpdateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// accessOfUser is what of a user decides on access.
func accessOfUser(o client.Object) any {
	user := o.(*clerkv1alpha1.ClerkUser)
	return []any{user.Suspended(), user.DeletionTimestamp.IsZero()}
}

// accessOfOrganization is what of an organization decides on the access of its members, or tells whether it is there.
func accessOfOrganization(o client.Object) any {
	organization := o.(*clerkv1alpha1.ClerkOrganization)
	ready := meta.FindStatusCondition(organization.Status.Conditions, clerkv1alpha1.ConditionReady)
	if ready == nil {
		ready = &metav1.Condition{}
	}
	return []any{
		isClosed(organization), organization.Status.TenantClass, organization.Status.Namespace,
		ready.Status, ready.Reason,
	}
}

// learnedOfInstance is what of an instance tenants are told of that is in its status.
func learnedOfInstance(o client.Object) any {
	return o.(*clerkv1alpha1.ClerkInstance).Status.InstanceID
}

// contentOfNamespace is what of a namespace is the operator's business: these kinds have no generation. Of one that is
// being deleted it is everything, since its status tells what remains.
func contentOfNamespace(o client.Object) any {
	content := []any{o.GetLabels(), o.GetAnnotations(), o.GetDeletionTimestamp().IsZero()}
	if !o.GetDeletionTimestamp().IsZero() {
		content = append(content, o.GetResourceVersion())
	}
	return content
}

// contentOfBinding is what of a binding is the operator's business, including who else changed it.
func contentOfBinding(o client.Object) any {
	binding := o.(*rbacv1.RoleBinding)
	managers := make([]string, 0, len(binding.ManagedFields))
	for _, entry := range binding.ManagedFields {
		managers = append(managers, entry.Manager)
	}
	slices.Sort(managers)
	return []any{
		binding.Labels, binding.Subjects, binding.RoleRef, managers, binding.Finalizers, binding.DeletionTimestamp.IsZero(),
	}
}
