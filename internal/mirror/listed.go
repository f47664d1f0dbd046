// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/pager"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
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
		if l.versions[kind], err = l.listVersions(ctx, kind); err != nil {
			return false, err
		}
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
		err := l.each(ctx, &clerkv1alpha1.ClerkOrganizationMembershipList{}, func(o runtime.Object) {
			members.Insert(o.(*clerkv1alpha1.ClerkOrganizationMembership).Spec.UserID)
		})
		if err != nil {
			return false, err
		}
		l.members = members
	}
	return l.members.Has(userID), nil
}

// listVersions lists the metadata of a kind's objects.
func (l *Listed) listVersions(ctx context.Context, kind schema.GroupVersionKind) (map[types.UID]string, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	versions := map[types.UID]string{}
	err := l.each(ctx, list, func(o runtime.Object) {
		object := o.(*metav1.PartialObjectMetadata)
		versions[object.UID] = object.ResourceVersion
	})
	return versions, err
}

// each calls a function with each object of a kind that the instance has. Its pages are of one moment, or, if they take so
// long that the API server has forgotten it, of one list without pages.
func (l *Listed) each(ctx context.Context, list client.ObjectList, do func(runtime.Object)) error {
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		page := list.DeepCopyObject().(client.ObjectList)
		err := l.mirror.live.List(ctx, page, client.MatchingFields{fieldInstanceName: l.instanceName},
			&client.ListOptions{Limit: options.Limit, Continue: options.Continue})
		return page, err
	})
	pages.PageSize = listPageSize
	err := pages.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		do(o)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing what is stored of instance %s: %w", l.instanceName, err)
	}
	return nil
}
