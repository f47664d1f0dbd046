// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/clerkapi"
	"github.com/clerk-operator/clerk-operator/test/clerkfake"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

//go:embed sync.md
var syncText string

// What is in Clerk.
const (
	syncUsers         = 2000
	syncOrganizations = 200
	syncMemberships   = 1500
)

// backfillTimeout bounds the first sync, which writes every object.
const backfillTimeout = 5 * time.Minute

// syncing is the scenario's state.
type syncing struct {
	*world
	clerk    *clerkfake.Clerk
	api      *clerkapi.Client
	backfill time.Duration
	// requests are those of all rounds, and syncs how many syncs these were.
	requests requests
	syncs    int
}

// runSync measures what a sync costs in which nothing has changed.
func runSync(ctx context.Context, b *bench) (chapter, error) {
	rounds := (b.rounds + 1) / 2
	s := &syncing{requests: newRequests(), clerk: clerkfake.New(clerkfake.Config{
		SecretKey: "sk_live_benchmark", Now: func() time.Time { return time.Now().Add(-time.Hour) },
	})}
	if err := s.fill(); err != nil {
		return chapter{}, err
	}
	server := httptest.NewServer(s.clerk)
	defer server.Close()
	s.api = clerkapi.NewClients(clerkapi.NewMetrics(prometheus.NewRegistry())).For("raw", server.URL, s.clerk.SecretKey())
	var c comparison
	err := withWorld(ctx, b, worldOptions{audited: true}, func(w *world) (err error) {
		s.world = w
		if err := s.prepare(ctx, server.URL); err != nil {
			return err
		}
		c, err = b.inTurns(ctx, rounds, s.sync, s.read)
		return err
	})
	if err != nil {
		return chapter{}, err
	}
	b.say("syncs: %s", c)
	return renderChapter("A sync over unchanged data", syncText, map[string]any{
		"Users": syncUsers, "Organizations": syncOrganizations, "Memberships": syncMemberships, "Rounds": rounds,
		"Rates": syncTable(c), "Requests": s.requestTable(), "Backfill": s.backfill.Round(100 * time.Millisecond),
	})
}

func (s *syncing) fill() (err error) {
	s.clerk.Quietly(func() {
		users := make([]clerkfake.User, 0, syncUsers)
		for i := range syncUsers {
			users = append(users, s.clerk.CreateUser(clerkfake.User{Email: fmt.Sprintf("user-%d@example.com", i)}))
		}
		for i := range syncOrganizations {
			o := s.clerk.CreateOrganization(clerkfake.Organization{Name: "Acme", Slug: fmt.Sprintf("acme-%d", i)})
			for j := i; j < syncMemberships && err == nil; j += syncOrganizations {
				_, err = s.clerk.AddMember(o.ID, users[j].ID, "org:member")
			}
		}
	})
	return err
}

// prepare starts the operator, gives it the key and waits for the backfill.
func (s *syncing) prepare(ctx context.Context, url string) error {
	if err := s.startLeader(ctx); err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: "clerk-backend-api"},
		StringData: map[string]string{"secret-key": s.clerk.SecretKey()},
	}
	if err := s.admin.Create(ctx, secret); err != nil {
		return fmt.Errorf("writing the secret key: %w", err)
	}
	patch := fmt.Sprintf(`{"spec":{"backendAPI":{"url":%q,"secretKeyRef":{"name":%q,"key":"secret-key"}}}}`, url, secret.Name)
	start := time.Now()
	if err := s.patch(ctx, patch); err != nil {
		return err
	}
	err := s.await(ctx, backfillTimeout, func(status clerkv1alpha1.ClerkInstanceSyncStatus) bool { return status.LastFullTime != nil })
	if err != nil {
		return fmt.Errorf("waiting for the backfill: %w", err)
	}
	s.backfill = time.Since(start)
	_, err = s.quiet(ctx)
	return err
}

func (s *syncing) patch(ctx context.Context, patch string) error {
	instance := &clerkv1alpha1.ClerkInstance{ObjectMeta: metav1.ObjectMeta{Name: clerkv1alpha1.DefaultInstanceName}}
	if err := s.admin.Patch(ctx, instance, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return fmt.Errorf("patching the instance: %w", err)
	}
	return nil
}

func (s *syncing) await(
	ctx context.Context, timeout time.Duration, done func(clerkv1alpha1.ClerkInstanceSyncStatus) bool,
) error {
	return wait.PollUntilContextTimeout(ctx, polling/5, timeout, true, func(ctx context.Context) (bool, error) {
		var instance clerkv1alpha1.ClerkInstance
		err := s.admin.Get(ctx, client.ObjectKey{Name: clerkv1alpha1.DefaultInstanceName}, &instance)
		return err == nil && done(instance.Status.Sync), err
	})
}

// sync is a round of the operator.
func (s *syncing) sync(ctx context.Context) (sample, error) {
	mark, err := s.auditMark()
	if err != nil {
		return sample{}, err
	}
	result, err := s.measure(ctx, 1, func(ctx context.Context) error {
		request := fmt.Sprint(time.Now().UnixNano())
		err := s.patch(ctx, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, clerkv1alpha1.AnnotationResyncRequestedAt, request))
		if err != nil {
			return err
		}
		return s.await(ctx, stateTimeout, func(status clerkv1alpha1.ClerkInstanceSyncStatus) bool { return status.LastRequest == request })
	})
	if err != nil {
		return sample{}, err
	}
	made, err := s.auditSince(mark)
	if err != nil {
		return sample{}, err
	}
	delete(made.writes, "leases")
	s.requests.add(made)
	s.syncs++
	return result, nil
}

// read is a round of the raw side.
func (s *syncing) read(ctx context.Context) (sample, error) {
	return s.measure(ctx, 1, func(ctx context.Context) error {
		for offset, total := 0, 1; offset < total; {
			page, err := s.api.Organizations(ctx, clerkapi.OldestFirst, offset)
			if err != nil {
				return err
			}
			offset, total = offset+len(page.Entries), page.Total
		}
		for offset, total := 0, 1; offset < total; {
			page, err := s.api.Memberships(ctx, clerkapi.OldestFirst, offset)
			if err != nil {
				return err
			}
			offset, total = offset+len(page.Entries), page.Total
		}
		for after := ""; ; {
			page, err := s.api.UsersAfter(ctx, after)
			if err != nil || len(page.Entries) < clerkapi.PageSize {
				return err
			}
			after = page.Items[len(page.Items)-1].ID
		}
	})
}

func syncTable(c comparison) string {
	const objects = syncUsers + syncOrganizations + syncMemberships
	t := table{header: []string{"", "Sync", "Raw reading"}}
	t.add("Objects per second, median", fmt.Sprintf("%.0f", objects*medianRate(c.operator)), fmt.Sprintf("%.0f", objects*medianRate(c.raw)))
	t.add("Ratio, median", fmt.Sprintf("%.2f", c.ratio()), "1")
	return t.markdown()
}

func (s *syncing) requestTable() string {
	t := table{header: []string{"Written", "In a sync"}}
	for _, resource := range slices.Sorted(maps.Keys(s.requests.writes)) {
		t.add("`"+resource+"`", fmt.Sprintf("%.2f", float64(s.requests.writes[resource])/float64(max(1, s.syncs))))
	}
	t.add("Mirrored objects and tenants", fmt.Sprint(s.tenantWrites()))
	return t.markdown()
}

// tenantWrites counts the writes of anything but the instance's own status.
func (s *syncing) tenantWrites() int {
	return total(s.requests.writes) - s.requests.writes["clerkinstances/status"]
}
