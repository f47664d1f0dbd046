// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// catchUpInterval is how soon an object is looked at again that the cache holds in a state from before our own write.
const catchUpInterval = 20 * time.Millisecond

// ownWrites remembers the version that writing an object's status came to, until the cache has seen it. Reconciling an
// object from before that would tell the same transition again, with another time.
type ownWrites struct {
	mu       sync.Mutex
	versions map[types.UID]string
}

func newOwnWrites() *ownWrites { return &ownWrites{versions: map[types.UID]string{}} }

// wrote notes the version of an object that was just written.
func (w *ownWrites) wrote(o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[o.GetUID()] = o.GetResourceVersion()
}

// behind says whether an object from the cache is from before our last write.
func (w *ownWrites) behind(o client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok := w.versions[o.GetUID()]
	if !ok {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(o.GetResourceVersion(), written); err == nil && order < 0 {
		return true
	}
	delete(w.versions, o.GetUID())
	return false
}

// forget drops an object that is gone.
func (w *ownWrites) forget(o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.versions, o.GetUID())
}
