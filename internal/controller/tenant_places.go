// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// places remembers who was given a place in a class and whose status in the cache does not say so yet: two organizations
// that are reconciled side by side must not get the same one.
type places struct {
	mu    sync.Mutex
	given map[types.UID]string
}

func newPlaces() *places { return &places{given: map[types.UID]string{}} }

// clone returns a copy to try places with.
func (p *places) clone() *places {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &places{given: maps.Clone(p.given)}
}

// has says whether an owner was given a place that its status does not tell of yet.
func (p *places) has(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given[uid] != ""
}

// leave takes the place back that was given to an owner and not used.
func (p *places) leave(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.given, uid)
}

// admit gives an owner a place in its class, or says why it has to wait. Who has a place and no namespace, as when its name
// is taken, keeps it.
func (t *tenancy) admit(ctx context.Context, c *claim) (wait string, err error) {
	spec := c.class.Spec
	if !limited(c.class) || c.owner.GetTenantStatus().TenantClass == c.class.Name {
		return "", nil
	}
	t.places.mu.Lock()
	defer t.places.mu.Unlock()
	if t.places.given[c.owner.GetUID()] == c.class.Name {
		return "", nil
	}
	delete(t.places.given, c.owner.GetUID()) // one in another class
	all, err := t.owners(ctx, c.class.TenantKind())
	if err != nil {
		return "", err
	}
	held, waiting := t.places.divide(all, c)
	if most := spec.MaxTenantsPerCreator; most > 0 && held[tenant.CreatorOf(c.owner)] >= int(most) {
		return noPlace(c), nil
	}
	free := len(all)
	if spec.MaxTenants != nil {
		free = int(*spec.MaxTenants)
		for _, places := range held {
			free -= places
		}
	}
	next, err := t.isNext(ctx, c, waiting, held, free)
	if err != nil {
		return "", err
	}
	if !next {
		return noPlace(c), nil
	}
	t.places.given[c.owner.GetUID()] = c.class.Name
	return "", nil
}

// limited says whether a class has only so many places.
func limited(class *clerkv1alpha1.ClerkTenantClass) bool {
	return class.Spec.MaxTenants != nil || class.Spec.MaxTenantsPerCreator > 0
}

// noPlace tells how many tenants a class may have. It is the same whichever bound is the one that keeps an owner waiting:
// nobody looks at an owner again when it becomes the other one.
func noPlace(c *claim) string {
	var bounds []string
	if most := c.class.Spec.MaxTenants; most != nil {
		bounds = append(bounds, fmt.Sprintf("%d tenants", *most))
	}
	if most := c.class.Spec.MaxTenantsPerCreator; most > 0 {
		bounds = append(bounds, fmt.Sprintf("%d that %s created", most, tenant.CreatorOf(c.owner).ID))
	}
	return fmt.Sprintf("ClerkTenantClass %s has no place for it: it may have %s", c.class.Name, strings.Join(bounds, ", and "))
}

// divide divides all owners of a kind into those that have a place in a claim's class, counted by their creators, and those
// that have none in any, and the claim's own owner.
func (p *places) divide(all []owner, c *claim) (held map[tenant.Creator]int, waiting []tenant.Owner) {
	class := c.class.Name
	held = map[tenant.Creator]int{}
	exists := make(map[types.UID]bool, len(all))
	for _, o := range all {
		uid, status := o.GetUID(), o.GetTenantStatus()
		exists[uid] = true
		if status.TenantClass != "" {
			delete(p.given, uid) // its status says it
		}
		switch given := p.given[uid]; {
		case uid == c.owner.GetUID():
			waiting = append(waiting, o)
		case cmp.Or(status.TenantClass, given) == class:
			held[tenant.CreatorOf(o)]++
		case status.TenantClass == "" && given == "" && o.GetDeletionTimestamp().IsZero():
			waiting = append(waiting, o)
		}
	}
	for uid := range p.given {
		if !exists[uid] && p.given[uid] == class {
			delete(p.given, uid)
		}
	}
	return held, waiting
}

// isNext says whether it is an owner's turn for one of the free places in its class. Who cannot take a place now, because
// it is suspended or its instance is gone or observes only, keeps nobody waiting.
func (t *tenancy) isNext(
	ctx context.Context, c *claim, waiting []tenant.Owner, held map[tenant.Creator]int, free int,
) (bool, error) {
	switch {
	case free <= 0:
		return false, nil
	case len(waiting) <= free && c.class.Spec.MaxTenantsPerCreator == 0:
		return true, nil // whichever of them the class selects
	}
	classes, err := t.classesFor(ctx, c.class.TenantKind())
	if err != nil {
		return false, err
	}
	able := t.able(ctx, c)
	selected := make([]tenant.Owner, 0, len(waiting))
	for _, o := range waiting {
		can, err := able(o)
		if err != nil {
			return false, err
		}
		if !can {
			continue
		}
		if class := t.selectors.Select(classes, o); class != nil && class.Name == c.class.Name {
			selected = append(selected, o)
		}
	}
	inTurn := tenant.InTurn(selected, held, c.class.Spec.MaxTenantsPerCreator)
	return slices.ContainsFunc(inTurn[:min(free, len(inTurn))], func(o tenant.Owner) bool {
		return o.GetUID() == c.owner.GetUID()
	}), nil
}

// able says of owners whether they can take a place now.
func (t *tenancy) able(ctx context.Context, c *claim) func(tenant.Owner) (bool, error) {
	type state struct {
		config   *clerkv1alpha1.ClerkInstance
		orphaned bool
	}
	instances := map[string]state{}
	return func(o tenant.Owner) (bool, error) {
		name := o.GetMirrored().InstanceName
		of, known := instances[name]
		if !known {
			var err error
			if of.config, of.orphaned, err = t.configOf(ctx, o); err != nil {
				return false, err
			}
			instances[name] = of
		}
		user, isUser := o.(*clerkv1alpha1.ClerkUser)
		banned := isUser && user.Suspended()
		observed := of.config.Observes() && !c.config.Observes()
		return !of.orphaned && !observed && !suspended(o, of.config) && !banned, nil
	}
}

// owners lists the owners of a kind from the cache, to be read only.
func (b *base) owners(ctx context.Context, kind clerkv1alpha1.TenantKind) ([]owner, error) {
	if kind == clerkv1alpha1.TenantsUsers {
		var users clerkv1alpha1.ClerkUserList
		err := b.client.List(ctx, &users, client.UnsafeDisableDeepCopy)
		return ownersOf[clerkv1alpha1.ClerkUser](users.Items), err
	}
	var organizations clerkv1alpha1.ClerkOrganizationList
	err := b.client.List(ctx, &organizations, client.UnsafeDisableDeepCopy)
	return ownersOf[clerkv1alpha1.ClerkOrganization](organizations.Items), err
}

func ownersOf[T any, P interface {
	*T
	owner
}](items []T) []owner {
	owners := make([]owner, len(items))
	for i := range items {
		owners[i] = P(&items[i])
	}
	return owners
}

// queueInterval is how often whoever waits for a place is looked at when nothing tells that one is free.
const queueInterval = 10 * time.Minute

// pending notes that an owner waits for a place.
func pending(c *claim, wait string) error {
	c.owner.GetTenantStatus().TenantClass = ""
	c.owner.GetTenantStatus().PendingTenantClass = c.class.Name
	setTenant(c.owner, metav1.ConditionFalse, clerkv1alpha1.ReasonPending, "it waits for a place")
	return stalled(clerkv1alpha1.ReasonPending, queueInterval, "%s; it waits", wait)
}

// nextInQueue is how many of those who wait are looked at when one place becomes free.
const nextInQueue = 4

// leftPlace passes owners that gave up a place in a class, or in its queue, or can take none for now.
func leftPlace() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(owner).GetTenantStatus(), e.ObjectNew.(owner).GetTenantStatus()
			left := before.TenantClass != "" && before.TenantClass != after.TenantClass
			gaveUp := before.PendingTenantClass != "" && after.PendingTenantClass == "" && after.TenantClass == ""
			return left || gaveUp || isHeldBack(e.ObjectOld) != isHeldBack(e.ObjectNew)
		},
	}
}

// isHeldBack says whether an owner itself cannot take a place.
func isHeldBack(o client.Object) bool { return isClosed(o) || isSuspendedOrDeleting(o) }

// arrived passes owners that have just come to a class or its queue. While that was written, a Secret of the class may have
// changed or a place may have become free, and nobody knew yet that they are there to be told.
func arrived() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(owner).GetTenantStatus(), e.ObjectNew.(owner).GetTenantStatus()
			return after.PendingTenantClass != "" && before.PendingTenantClass != after.PendingTenantClass ||
				after.TenantClass != "" && before.TenantClass != after.TenantClass
		},
	}
}

// waiting leads from an owner that gave up a place to those of its kind whose turn is next, in whatever class.
func (t *tenancy) waiting(ctx context.Context, o client.Object) []reconcile.Request {
	kind := tenant.KindOf(o.(owner))
	classes, err := t.classesFor(ctx, kind)
	if err == nil && !slices.ContainsFunc(classes, func(class clerkv1alpha1.ClerkTenantClass) bool { return limited(&class) }) {
		return nil
	}
	all, err := t.owners(ctx, kind)
	if err != nil {
		log.FromContext(ctx).Error(err, "Could not list who waits for a place")
		return nil
	}
	queues := map[string][]tenant.Owner{}
	held := map[string]map[tenant.Creator]int{}
	for _, other := range all {
		if class := other.GetTenantStatus().PendingTenantClass; class != "" {
			queues[class] = append(queues[class], other)
		}
		if class := other.GetTenantStatus().TenantClass; class != "" {
			if held[class] == nil {
				held[class] = map[tenant.Creator]int{}
			}
			held[class][tenant.CreatorOf(other)]++
		}
	}
	var requests []reconcile.Request
	for class, queue := range queues {
		inTurn := tenant.InTurn(queue, held[class], 0)
		// Whoever is held back by what its own creator has is looked at, too: the place may have been the creator's.
		same := slices.DeleteFunc(slices.Clone(queue), func(other tenant.Owner) bool {
			return tenant.CreatorOf(other) != tenant.CreatorOf(o.(owner))
		})
		for _, next := range append(inTurn[:min(len(inTurn), nextInQueue)], same[:min(len(same), nextInQueue)]...) {
			requests = append(requests, requestForOwner(next))
		}
	}
	return requests
}
