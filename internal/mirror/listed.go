// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/pager"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

// listPageSize is how many objects one request of a live list returns.
const listPageSize = 500

// Listed is what the API server stores of an instance. Each kind is listed live when it is first asked for, in pages: for
// many decisions that is less work than a read for each. It is safe for concurrent use.
type Listed struct {
	mirror       *Mirror
	instanceName string

	mu sync.Mutex // held while a kind is listed, so that it is listed once
	// versions are the resource versions of a kind's objects.
	versions map[schema.GroupVersionKind]map[types.UID]string
	// members are the IDs of the users that have a membership; nil before they are listed.
	members sets.Set[string]
}

// Listed returns the lists of an instance, of which none has been made yet.
func (m *Mirror) Listed(instanceName string) *Listed {
	return &Listed{mirror: m, instanceName: instanceName, versions: map[schema.GroupVersionKind]map[types.UID]string{}}
}

// confirms reports whether exactly the version of an object that the cache holds is listed. What was stored after its kind
// was listed is not, and nil confirms nothing.
func (l *Listed) confirms(ctx context.Context, cached client.Object) (bool, error) {
	if l == nil {
		return false, nil
	}
	kind, err := apiutil.GVKForObject(cached, l.mirror.client.Scheme())
	if err != nil {
		return false, fmt.Errorf("telling the kind of %s: %w", cached.GetName(), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.versions[kind] == nil {
		versions := map[types.UID]string{}
		err := l.mirror.eachMetadata(ctx, kind, l.instanceName, func(o *metav1.PartialObjectMetadata) {
			versions[o.UID] = o.ResourceVersion
		})
		if err != nil {
			return false, err
		}
		l.versions[kind] = versions
	}
	version, found := l.versions[kind][cached.GetUID()]
	return found && version == cached.GetResourceVersion(), nil
}

// HasMember reports whether a user has a membership.
func (l *Listed) HasMember(ctx context.Context, userID string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.members == nil {
		members := sets.New[string]()
		list := &clerkv1alpha1.ClerkOrganizationMembershipList{}
		err := l.mirror.each(ctx, list, l.instanceName, func(o runtime.Object) {
			members.Insert(o.(*clerkv1alpha1.ClerkOrganizationMembership).Spec.UserID)
		})
		if err != nil {
			return false, err
		}
		l.members = members
	}
	return l.members.Has(userID), nil
}

// each calls a function with each object of a kind that an instance has, live, in pages of one moment.
func (m *Mirror) each(ctx context.Context, list client.ObjectList, instanceName string, do func(runtime.Object)) error {
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		page := list.DeepCopyObject().(client.ObjectList)
		err := m.live.List(ctx, page, client.MatchingFields{fieldInstanceName: instanceName},
			&client.ListOptions{Limit: options.Limit, Continue: options.Continue})
		return page, err
	})
	pages.PageSize = listPageSize
	err := pages.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		do(o)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing what is stored of instance %s: %w", instanceName, err)
	}
	return nil
}

// eachMetadata is each for the metadata of the objects of a kind.
func (m *Mirror) eachMetadata(
	ctx context.Context, kind schema.GroupVersionKind, instanceName string, do func(*metav1.PartialObjectMetadata),
) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	return m.each(ctx, list, instanceName, func(o runtime.Object) { do(o.(*metav1.PartialObjectMetadata)) })
}

// ListLive returns an instance's mirrored objects of a kind that are stored, in the order of the cache: the cached ones that
// are listed live, and those that the cache lacks, each of which is read by name. They must not be changed.
func (m *Mirror) ListLive(ctx context.Context, kind clerk.Kind, instanceName string) ([]Object, error) {
	gvk, err := apiutil.GVKForObject(NewObject(kind), m.client.Scheme())
	if err != nil {
		return nil, fmt.Errorf("telling the kind of %s: %w", kind, err)
	}
	names := map[types.UID]string{}
	if err := m.eachMetadata(ctx, gvk, instanceName, func(o *metav1.PartialObjectMetadata) { names[o.UID] = o.Name }); err != nil {
		return nil, err
	}
	// The cache is read after the list, so that it lacks only what it has not heard of.
	cached, err := m.List(ctx, kind, instanceName)
	if err != nil {
		return nil, err
	}
	stored := make([]Object, 0, len(names))
	for _, o := range cached {
		if _, found := names[o.GetUID()]; found {
			stored = append(stored, o)
			delete(names, o.GetUID())
		}
	}
	for _, name := range names {
		o := NewObject(kind)
		err := m.live.Get(ctx, client.ObjectKey{Name: name}, o)
		switch {
		case err == nil:
			stored = append(stored, o)
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return stored, nil
}
