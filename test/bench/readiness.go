// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// readiness watches for objects to report that they are provisioned, for both sides in the same way.
type readiness struct {
	mu       sync.Mutex
	expected sets.Set[string]
	done     chan struct{}
}

// watchReadiness watches until the context ends.
func watchReadiness(ctx context.Context, config *rest.Config, scheme *runtime.Scheme) (*readiness, error) {
	objects, err := cache.New(config, cache.Options{Scheme: scheme, DefaultTransform: cache.TransformStripManagedFields()})
	if err != nil {
		return nil, fmt.Errorf("building a cache: %w", err)
	}
	r := &readiness{}
	for _, kind := range []client.Object{
		&clerkv1alpha1.ClerkOrganization{}, &clerkv1alpha1.ClerkOrganizationMembership{}, &clerkv1alpha1.ClerkUser{},
	} {
		informer, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { r.see(o) },
			UpdateFunc: func(_, o any) { r.see(o) },
		}); err != nil {
			return nil, fmt.Errorf("watching %T: %w", kind, err)
		}
	}
	go func() { _ = objects.Start(ctx) }()
	if !objects.WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("watching: %w", context.Cause(ctx))
	}
	return r, nil
}

// expect says which objects are waited for, by name, and returns what wait takes.
func (r *readiness) expect(names []string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected, r.done = sets.New(names...), make(chan struct{})
	return r.done
}

func (r *readiness) see(o any) {
	object, ok := o.(client.Object)
	if !ok || !provisioned(object) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.expected.Has(object.GetName()) {
		return
	}
	if r.expected.Delete(object.GetName()); r.expected.Len() == 0 {
		close(r.done)
	}
}

// wait waits until all that are expected are provisioned.
func (r *readiness) wait(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Errorf("%d objects are not provisioned, such as %.3v: %w", r.expected.Len(), r.expected.UnsortedList(), ctx.Err())
	}
}

// provisioned says whether an object reports the state in which a round leaves it.
func provisioned(o client.Object) bool {
	switch object := o.(type) {
	case *clerkv1alpha1.ClerkOrganization:
		return meta.IsStatusConditionTrue(object.Status.Conditions, clerkv1alpha1.ConditionReady) &&
			object.Status.Members != nil && int(*object.Status.Members) == len(roles)
	case *clerkv1alpha1.ClerkOrganizationMembership:
		return meta.IsStatusConditionTrue(object.Status.Conditions, clerkv1alpha1.ConditionReady)
	case *clerkv1alpha1.ClerkUser:
		return object.Status.Organizations != nil && *object.Status.Organizations == 1
	}
	return false
}

// readyNow is a condition that has just become true.
func readyNow(conditionType, reason, message string, generation int64) metav1.Condition {
	return metav1.Condition{
		Type: conditionType, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation,
		LastTransitionTime: metav1.Now(),
	}
}
