// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/tenant"
)

// maxPlanned is how many changes a plan names; it counts all of them.
const maxPlanned = 32

// planner is a client that reads as another does and notes what it is asked to write instead of writing it. A plan is
// so made by the code that would make the changes.
type planner struct {
	client.Client
	// live reads past the cache, which does not hold namespaces that are not tenants'.
	live client.Reader

	mu      sync.Mutex
	changes map[string]string // what would be done, by object
	counts  map[string]int
}

func newPlanner(c client.Client, live client.Reader) *planner {
	return &planner{Client: c, live: live, changes: map[string]string{}, counts: map[string]int{}}
}

// What a plan does to objects.
const (
	planCreate = "create"
	planChange = "change"
	planDelete = "delete"
)

// note adds a change. The first one of an object is what becomes of it, unless it is deleted after all.
func (p *planner) note(verb, object string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, noted := p.changes[object]
	if noted && verb != planDelete {
		return
	}
	if noted {
		p.counts[before]--
	}
	p.changes[object] = verb
	p.counts[verb]++
}

// Create notes a creation. The name may be taken: that is what people who observe want to hear of.
func (p *planner) Create(ctx context.Context, o client.Object, _ ...client.CreateOption) error {
	err := p.live.Get(ctx, client.ObjectKeyFromObject(o), o.DeepCopyObject().(client.Object))
	if err == nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{}, o.GetName())
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("planning: %w", err)
	}
	p.note(planCreate, p.name(o))
	return nil
}

// Delete notes a deletion.
func (p *planner) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	p.note(planDelete, p.name(o))
	return nil
}

// Update is not how tenants are written.
func (*planner) Update(context.Context, client.Object, ...client.UpdateOption) error {
	return errors.New("planning: an update cannot be planned")
}

// DeleteAllOf is not how tenants are written.
func (*planner) DeleteAllOf(context.Context, client.Object, ...client.DeleteAllOfOption) error {
	return errors.New("planning: a deletion of many cannot be planned")
}

// Patch notes a change.
func (p *planner) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.PatchOption) error {
	p.note(planChange, p.name(o))
	return nil
}

// Apply notes a creation or a change, by whether the cache holds the object.
func (p *planner) Apply(ctx context.Context, desired runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	object := &unstructured.Unstructured{}
	if err := convert(desired, &object.Object); err != nil {
		return fmt.Errorf("planning: %w", err)
	}
	exists, err := p.exists(ctx, object)
	if err != nil {
		return fmt.Errorf("planning: %w", err)
	}
	verb := planCreate
	if exists {
		verb = planChange
	}
	p.note(verb, p.name(object)+subjects(object))
	return nil
}

// exists says whether an object is there to be changed. Of a Secret, which cannot be read, that is whether its namespace is.
func (p *planner) exists(ctx context.Context, object *unstructured.Unstructured) (bool, error) {
	var err error
	switch object.GetKind() {
	case "Namespace":
		err = p.live.Get(ctx, client.ObjectKeyFromObject(object), &corev1.Namespace{})
	case "Secret":
		err = p.live.Get(ctx, client.ObjectKey{Name: object.GetNamespace()}, &corev1.Namespace{})
	default:
		existing, unknown := p.Scheme().New(object.GroupVersionKind())
		if unknown != nil {
			return false, unknown
		}
		err = p.Get(ctx, client.ObjectKeyFromObject(object), existing.(client.Object))
	}
	return err == nil, client.IgnoreNotFound(err)
}

// subjects tells how many a binding binds.
func subjects(o *unstructured.Unstructured) string {
	if o.GetKind() != "RoleBinding" {
		return ""
	}
	subjects, _, _ := unstructured.NestedSlice(o.Object, "subjects")
	return fmt.Sprintf(" (%d subjects)", len(subjects))
}

// name names an object in a plan.
func (p *planner) name(o client.Object) string {
	kind := "object"
	if gvk, err := apiutil.GVKForObject(o, p.Scheme()); err == nil {
		kind = gvk.Kind
	}
	name := o.GetName()
	if o.GetNamespace() != "" {
		name = o.GetNamespace() + "/" + name
	}
	return kind + " " + name
}

// plan returns what was noted, in an order that does not change.
func (p *planner) plan() clerkv1alpha1.TenantPlan {
	p.mu.Lock()
	defer p.mu.Unlock()
	plan := clerkv1alpha1.TenantPlan{
		Create: count(p.counts[planCreate]), Change: count(p.counts[planChange]), Delete: count(p.counts[planDelete]),
		Changes: []string{},
	}
	for object, verb := range p.changes {
		plan.Changes = append(plan.Changes, verb+" "+object)
	}
	slices.Sort(plan.Changes)
	plan.Changes = plan.Changes[:min(len(plan.Changes), maxPlanned)]
	return plan
}

// observing returns a tenancy that notes what it would write.
func (t *tenancy) observing() (*tenancy, *planner) {
	shadow := *t
	p := newPlanner(t.client, t.live)
	shadow.client = p
	shadow.recorder = silent{}
	shadow.gate = &gate{} // what is only planned is not given
	// Nobody is given a place, and no Secret is written.
	shadow.places, shadow.secrets = t.places.clone(), newSchedule(t.clock, resyncInterval)
	return &shadow, p
}

// observe tells what would be changed for a tenant and changes nothing.
func (t *tenancy) observe(ctx context.Context, c *claim, granted tenant.Grants) error {
	shadow, planner := t.observing()
	imagined := *c
	imagined.owner = c.owner.DeepCopyObject().(owner)
	err := shadow.enforce(ctx, &imagined, granted)
	if _, stalls := stalledOnly(err); err != nil && !stalls {
		return err
	}
	plan := planner.plan()
	c.owner.GetTenantStatus().Plan = plan
	if c.class == nil && len(plan.Changes) == 0 {
		// It is nobody's tenant, and there is nothing to take away.
		setTenant(c.owner, metav1.ConditionFalse, clerkv1alpha1.ReasonNoTenantClass, noClass(c))
		return nil
	}
	message := fmt.Sprintf("mode Observe: %d objects would be created, %d changed and %d deleted; status.plan names them",
		*plan.Create, *plan.Change, *plan.Delete)
	if err != nil {
		message += "; " + err.Error()
	}
	setTenant(c.owner, metav1.ConditionUnknown, clerkv1alpha1.ReasonObserving, "mode Observe: nothing is changed")
	return stalled(clerkv1alpha1.ReasonObserving, resyncInterval, "%s", message)
}

// observeTeardown tells what would be deleted of a deleted owner's tenant, and says whether there is anything.
func (t *tenancy) observeTeardown(
	ctx context.Context, o owner, tombstone *clerkv1alpha1.ClerkTombstone,
) (left bool, err error) {
	shadow, planner := t.observing()
	imagined := o.DeepCopyObject().(owner)
	namespace, _, err := shadow.disconnect(ctx, imagined)
	if err != nil || namespace == nil {
		return false, err
	}
	if _, keep, err := t.fate(ctx, o, tombstone, namespace); err != nil {
		return true, err
	} else if keep == "" {
		planner.note(planDelete, planner.name(namespace))
	}
	plan := planner.plan()
	o.GetTenantStatus().Plan = plan
	setReady(o, metav1.ConditionFalse, clerkv1alpha1.ReasonObserving, fmt.Sprintf(
		"mode Observe: it is deleted, and so would be %d objects, that are kept until the mode is Enforce; status.plan names them",
		*plan.Delete))
	return true, nil
}

// silent tells nobody of what is only imagined.
type silent struct{}

// Eventf tells nobody.
func (silent) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

// planCollector sums what the status of tenants says would be changed, at each scrape.
type planCollector struct {
	base
	planned *prometheus.Desc
}

func newPlanCollector(b base) *planCollector {
	return &planCollector{base: b, planned: prometheus.NewDesc("clerk_operator_planned_changes",
		"Objects of tenants that would be created, changed or deleted if the instance's mode were not Observe.",
		[]string{"instance", "action"}, nil)}
}

// Describe tells of the one metric.
func (p *planCollector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- p.planned }

// Collect reads the cache.
func (p *planCollector) Collect(metrics chan<- prometheus.Metric) {
	type series struct{ instance, action string }
	sums := map[series]int32{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // for a cache that has not been filled
	defer cancel()
	for _, kind := range []clerkv1alpha1.TenantKind{clerkv1alpha1.TenantsOrganizations, clerkv1alpha1.TenantsUsers} {
		owners, err := p.owners(ctx, kind)
		if err != nil {
			return // the cache has not started
		}
		for _, o := range owners {
			plan, instance := o.GetTenantStatus().Plan, o.GetMirrored().InstanceName
			for action, n := range map[string]*int32{planCreate: plan.Create, planChange: plan.Change, planDelete: plan.Delete} {
				if n != nil {
					sums[series{instance, action}] += *n
				}
			}
		}
	}
	for of, sum := range sums {
		metrics <- prometheus.MustNewConstMetric(p.planned, prometheus.GaugeValue, float64(sum), of.instance, of.action)
	}
}
