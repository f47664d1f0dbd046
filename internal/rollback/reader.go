// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"context"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// reader reads the API server. It returns ErrRolledBack for an object that is older than the cached one, and has the detector
// look when a list is older than what was seen.
type reader struct {
	client.Reader
	cached   client.Reader
	detector *Detector
}

// Get reads an object. The cached one, which was there before, is never newer.
func (r *reader) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	kind, err := apiutil.GVKForObject(o, r.detector.scheme)
	if err != nil {
		return fmt.Errorf("telling the kind of %T: %w", o, err)
	}
	if r.detector.kinds[kind] == nil {
		return r.Reader.Get(ctx, key, o, options...)
	}
	before := r.detector.kinds[kind].DeepCopyObject().(client.Object)
	// Without a cached object, or a cache that has started, there is nothing to compare with.
	unknown := r.cached.Get(ctx, key, before)
	if err := r.Reader.Get(ctx, key, o, options...); err != nil || unknown != nil {
		return err
	}
	return r.detector.compare(kind, before, o)
}

// List reads objects. A list of the latest state is never older than what was seen before it was asked for; that it is has to
// be confirmed by another one.
func (r *reader) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	kind, err := apiutil.GVKForObject(list, r.detector.scheme)
	if err != nil {
		return fmt.Errorf("telling the kind of %T: %w", list, err)
	}
	kind.Kind = strings.TrimSuffix(kind.Kind, "List")
	asked := (&client.ListOptions{}).ApplyOptions(options)
	if r.detector.kinds[kind] == nil || asked.Continue != "" || asked.Raw != nil && asked.Raw.ResourceVersion != "" {
		return r.Reader.List(ctx, list, options...)
	}
	before := r.detector.seen(kind)
	if err := r.Reader.List(ctx, list, options...); err != nil {
		return err
	}
	if isOlder(list.GetResourceVersion(), before) {
		r.detector.suspect()
	}
	r.detector.seeVersion(kind, list.GetResourceVersion())
	return nil
}
