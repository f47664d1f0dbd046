// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// Difference says how a state differs from what is stored.
type Difference string

// The differences that Compare tells.
const (
	// Same says that the stored object says the same, whenever that was learned.
	Same Difference = "same"
	// Missing says that nothing is stored.
	Missing Difference = "missing"
	// Changed says that what is stored says something else.
	Changed Difference = "changed"
	// Dead says that the object, or one that it cannot outlive, is known to be deleted, or is being deleted.
	Dead Difference = "dead"
)

// Compare compares a state with what is stored and writes nothing. A flag that the state leaves out is no difference. What
// the cache gives reason not to write, which is Same and Dead, is confirmed by what is listed, or else by a live read.
func (m *Mirror) Compare(ctx context.Context, o *clerk.Object, listed *Listed) (Difference, error) {
	if dead, err := m.isDead(ctx, listed, o); err != nil || dead {
		return Dead, err
	}
	stored, err := m.Get(ctx, o.Kind, o.InstanceName, o.ID)
	if err != nil {
		return "", err
	}
	difference, err := differ(o, stored)
	if err != nil || difference == Missing || difference == Changed {
		return difference, err
	}
	if confirmed, err := listed.confirms(ctx, stored); err != nil || confirmed {
		return difference, err
	}
	if stored, err = m.GetLive(ctx, o.Kind, o.InstanceName, o.ID); err != nil {
		return "", err
	}
	return differ(o, stored)
}

// CompareCached is Compare for what the cache is good enough for.
func (m *Mirror) CompareCached(ctx context.Context, o *clerk.Object) (Difference, error) {
	if dead, err := Deleted(ctx, m.client, o.InstanceName, append([]string{o.ID}, o.Parents...)...); err != nil || dead {
		return Dead, err
	}
	stored, err := m.Get(ctx, o.Kind, o.InstanceName, o.ID)
	if err != nil {
		return "", err
	}
	return differ(o, stored)
}

// differ tells how a state differs from an object, which is nil for none.
func differ(o *clerk.Object, stored Object) (Difference, error) {
	switch {
	case stored == nil:
		return Missing, nil
	case !stored.GetDeletionTimestamp().IsZero():
		return Dead, nil
	}
	same, err := same(completed(o, stored), stored)
	switch {
	case err != nil:
		return "", err
	case same:
		return Same, nil
	}
	return Changed, nil
}

// same says whether an object says all that a state says, but for when that was learned, and for the payer's plan, which
// is no part of a state.
func same(o *clerk.Object, stored Object) (bool, error) {
	want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.Apply)
	if err != nil {
		return false, fmt.Errorf("converting the state of %s: %w", o.ID, err)
	}
	have, err := runtime.DefaultUnstructuredConverter.ToUnstructured(stored)
	if err != nil {
		return false, fmt.Errorf("converting %s: %w", o.ID, err)
	}
	for _, object := range []map[string]any{want, have} {
		unstructured.RemoveNestedField(object, "spec", "eventTime")
		unstructured.RemoveNestedField(object, "spec", "billing")
		if o.UpdatedAt.Equal(o.EventTime) { // Clerk gave the state no time of its own
			unstructured.RemoveNestedField(object, "spec", "updatedAt")
		}
	}
	if !equality.Semantic.DeepEqual(want["spec"], have["spec"]) {
		return false, nil
	}
	for _, finalizer := range o.Meta.Finalizers {
		if !slices.Contains(stored.GetFinalizers(), finalizer) {
			return false, nil
		}
	}
	labels := stored.GetLabels()
	return !slices.ContainsFunc(slices.Collect(maps.Keys(o.Meta.Labels)), func(key string) bool {
		return labels[key] != o.Meta.Labels[key]
	}), nil
}

// List returns an instance's mirrored objects of a kind from the cache. They must not be changed.
func (m *Mirror) List(ctx context.Context, kind clerk.Kind, instanceName string) ([]Object, error) {
	options := []client.ListOption{client.MatchingFields{fieldInstanceName: instanceName}, client.UnsafeDisableDeepCopy}
	var objects []Object
	var err error
	switch kind {
	case clerk.KindUser:
		var list clerkv1alpha1.ClerkUserList
		err = m.client.List(ctx, &list, options...)
		objects = pointers[clerkv1alpha1.ClerkUser](list.Items)
	case clerk.KindOrganization:
		var list clerkv1alpha1.ClerkOrganizationList
		err = m.client.List(ctx, &list, options...)
		objects = pointers[clerkv1alpha1.ClerkOrganization](list.Items)
	default:
		var list clerkv1alpha1.ClerkOrganizationMembershipList
		err = m.client.List(ctx, &list, options...)
		objects = pointers[clerkv1alpha1.ClerkOrganizationMembership](list.Items)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the %s objects of instance %s: %w", kind, instanceName, err)
	}
	return objects, nil
}

// pointers returns the items of a list as objects.
func pointers[T any, P interface {
	*T
	Object
}](items []T) []Object {
	objects := make([]Object, 0, len(items))
	for i := range items {
		objects = append(objects, P(&items[i]))
	}
	return objects
}
