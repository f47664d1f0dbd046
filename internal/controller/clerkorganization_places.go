// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// places remembers who was given a place in a class and whose status in the cache does not say so yet: two organizations
// that are reconciled side by side must not get the same one.
type places struct {
	mu    sync.Mutex
	given map[types.UID]string
}

func newPlaces() *places { return &places{given: map[types.UID]string{}} }

// admit says whether an organization has a place in its class. Places are given in the order in which organizations were
// created in Clerk. An organization that has a namespace is a tenant already, whatever class it comes from.
func (r *ClerkOrganizationReconciler) admit(
	ctx context.Context, organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass,
) (bool, error) {
	organization.Status.PendingTenantClass = ""
	if class == nil || class.Spec.MaxTenants == nil || organization.Status.Namespace.Name != "" {
		return true, nil
	}
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	var all clerkv1alpha1.ClerkOrganizationList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("listing organizations: %w", err)
	}
	free := int(*class.Spec.MaxTenants)
	exists := make(map[types.UID]bool, len(all.Items))
	var waiting []*clerkv1alpha1.ClerkOrganization
	for i := range all.Items {
		other := &all.Items[i]
		exists[other.UID] = true
		if other.Status.TenantClass != "" {
			delete(r.places.given, other.UID) // its status says it
		}
		switch {
		case other.UID == organization.UID:
		case other.Status.TenantClass == class.Name, r.places.given[other.UID] == class.Name:
			free--
		case other.Status.TenantClass == "" && other.DeletionTimestamp.IsZero() && older(other, organization):
			waiting = append(waiting, other)
		}
	}
	for uid := range r.places.given {
		if !exists[uid] {
			delete(r.places.given, uid)
		}
	}
	ahead, err := r.ahead(ctx, waiting, class, free)
	if err != nil || free-ahead <= 0 {
		return false, err
	}
	r.places.given[organization.UID] = class.Name
	return true, nil
}

// ahead counts the organizations among some that a class selects, whether or not they know it yet, up to a number.
func (r *ClerkOrganizationReconciler) ahead(
	ctx context.Context, organizations []*clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass, atMost int,
) (count int, err error) {
	for i := 0; i < len(organizations) && count < atMost; i++ {
		selected, err := r.classOf(ctx, organizations[i])
		if err != nil {
			return 0, err
		}
		if selected != nil && selected.Name == class.Name {
			count++
		}
	}
	return count, nil
}

// older orders organizations by their creation in Clerk.
func older(a, b *clerkv1alpha1.ClerkOrganization) bool {
	if a.Spec.CreatedAt != nil && b.Spec.CreatedAt != nil && !a.Spec.CreatedAt.Equal(&b.Spec.CreatedAt.MicroTime) {
		return a.Spec.CreatedAt.Before(&b.Spec.CreatedAt.MicroTime)
	}
	return a.Name < b.Name
}

// pending notes that an organization waits for a place.
func pending(organization *clerkv1alpha1.ClerkOrganization, class *clerkv1alpha1.ClerkTenantClass) error {
	organization.Status.TenantClass = ""
	organization.Status.PendingTenantClass = class.Name
	err := stalled(clerkv1alpha1.ReasonPending, 0,
		"ClerkTenantClass %s may have %d tenants and has no place for the organization; it waits", class.Name, *class.Spec.MaxTenants)
	for _, conditionType := range []string{clerkv1alpha1.ConditionNamespaceReady, clerkv1alpha1.ConditionAccessReady} {
		setCondition(organization, conditionType, metav1.ConditionFalse, clerkv1alpha1.ReasonPending, "the organization waits for a place")
	}
	return err
}

// nextInQueue is how many of those who wait are looked at when one place becomes free.
const nextInQueue = 4

// leftPlace passes organizations that gave up a place in a class, or in its queue.
func leftPlace() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*clerkv1alpha1.ClerkOrganization), e.ObjectNew.(*clerkv1alpha1.ClerkOrganization)
			left := before.Status.TenantClass != "" && before.Status.TenantClass != after.Status.TenantClass
			gaveUp := before.Status.PendingTenantClass != "" && after.Status.PendingTenantClass == "" && after.Status.TenantClass == ""
			return left || gaveUp || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
		},
	}
}

// waiting leads from an organization that gave up a place to those that have waited longest, of whatever class.
func (r *ClerkOrganizationReconciler) waiting(ctx context.Context, _ client.Object) []reconcile.Request {
	var all clerkv1alpha1.ClerkOrganizationList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Could not list organizations")
		return nil
	}
	queues := map[string][]*clerkv1alpha1.ClerkOrganization{}
	for i := range all.Items {
		if class := all.Items[i].Status.PendingTenantClass; class != "" {
			queues[class] = append(queues[class], &all.Items[i])
		}
	}
	var requests []reconcile.Request
	for _, queue := range queues {
		slices.SortFunc(queue, func(a, b *clerkv1alpha1.ClerkOrganization) int {
			if older(a, b) {
				return -1
			}
			return 1
		})
		for _, organization := range queue[:min(len(queue), nextInQueue)] {
			requests = append(requests, requestFor(organization.Spec.OrganizationID))
		}
	}
	return requests
}
