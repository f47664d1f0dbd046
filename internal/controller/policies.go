// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/policy"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// Policies tell whether the admission policies are in force that hold the operator and tenants to what they may do.
type Policies interface {
	State() policy.State
	// Changes returns a channel of its own that an event comes to when the state has changed.
	Changes() <-chan event.GenericEvent
}

// gate decides whether anything new is given: a namespace, be it made, adopted or recognised, or access to one. Without the
// policies, labels and annotations of namespaces prove nothing, and a fault of the operator's is the whole cluster's.
type gate struct {
	policies Policies
	// required says that nothing new is given while the policies are not in force.
	required bool

	mu sync.Mutex
	// withheld are those who were given nothing, to be looked at when the standing of the policies changes from the one that
	// they were last looked at for.
	withheld map[clerkv1alpha1.TenantKind]sets.Set[reconcile.Request]
	looked   map[clerkv1alpha1.TenantKind]policy.Standing
}

func newGate(policies Policies, required bool) *gate {
	return &gate{
		policies: policies, required: required,
		withheld: map[clerkv1alpha1.TenantKind]sets.Set[reconcile.Request]{},
		looked:   map[clerkv1alpha1.TenantKind]policy.Standing{},
	}
}

// errNotProbed says that nothing can be given before the policies have been probed, which brings everything back.
var errNotProbed = errors.New("the admission policies have not been probed yet")

// check returns nil when something new may be given to an owner, and else why not.
func (g *gate) check(o owner) error {
	if !g.required {
		return nil
	}
	// Noted before the state is read: a change after that finds the note.
	g.note(o)
	switch g.policies.State().Standing {
	case policy.Enforced:
		g.drop(o)
		return nil
	case policy.Pending:
		return errNotProbed
	case policy.NotEnforced, policy.NotProven:
	}
	return stalled(clerkv1alpha1.ReasonPoliciesNotEnforced, 0, "no new namespace and no new access is given while the operator's "+
		"admission policies are not in force; the condition %s of ClerkInstances and ClerkTenantClasses says why",
		clerkv1alpha1.ConditionPoliciesEnforced)
}

func (g *gate) note(o owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kind := tenant.KindOf(o)
	if g.withheld[kind] == nil {
		g.withheld[kind] = sets.New[reconcile.Request]()
	}
	g.withheld[kind].Insert(requestForOwner(o))
}

func (g *gate) drop(o owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.withheld[tenant.KindOf(o)].Delete(requestForOwner(o))
}

// waiting leads from anything to the owners of a kind that were given nothing so far.
func (g *gate) waiting(kind clerkv1alpha1.TenantKind) handler.MapFunc {
	return func(context.Context, client.Object) []reconcile.Request {
		g.mu.Lock()
		defer g.mu.Unlock()
		standing := g.policies.State().Standing
		if standing == g.looked[kind] && standing != policy.Enforced {
			return nil // there is nothing to tell them that they do not say already
		}
		g.looked[kind] = standing
		requests := g.withheld[kind].UnsortedList()
		delete(g.withheld, kind)
		return requests
	}
}

// onChange leads from a change of what is known of the policies to requests.
func (g *gate) onChange(to handler.MapFunc) source.Source {
	return source.Channel(g.policies.Changes(), unhurried(handler.EnqueueRequestsFromMapFunc(to)))
}

// tell sets the condition that reports whether the policies are in force. Before they are probed, what an earlier leader
// said stays.
func (g *gate) tell(o conditioned) {
	state := g.policies.State()
	message := state.Message
	if !g.required {
		message += "; by --require-policies=false, tenants are made in any case"
	}
	set := func(status metav1.ConditionStatus, reason string) {
		setCondition(o, clerkv1alpha1.ConditionPoliciesEnforced, status, reason, message)
	}
	switch state.Standing {
	case policy.Pending:
	case policy.Enforced:
		set(metav1.ConditionTrue, clerkv1alpha1.ReasonEnforced)
	case policy.NotEnforced:
		if g.required {
			message += "; until every policy holds, no new namespace and no new access is given: apply config/policy, with the " +
				"name of the operator's account in it"
		}
		set(metav1.ConditionFalse, clerkv1alpha1.ReasonNotEnforced)
	case policy.NotProven:
		set(metav1.ConditionUnknown, clerkv1alpha1.ReasonNotProven)
	}
}
