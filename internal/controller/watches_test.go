// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

func TestRevoking_comesBeforeEverythingElse(t *testing.T) {
	g := NewWithT(t)
	queue := priorityqueue.New[reconcile.Request]("test")
	defer queue.ShutDown()
	named := func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
	}
	h := revoking(handler.EnqueueRequestsFromMapFunc(named), isSuspendedOrDeleting)
	user := func(name string, banned bool) *clerkv1alpha1.ClerkUser {
		u := &clerkv1alpha1.ClerkUser{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: name}}
		u.Spec.Banned = &banned
		return u
	}
	h.Create(t.Context(), event.CreateEvent{Object: user("new", false)}, queue)
	h.Update(t.Context(), event.UpdateEvent{ObjectOld: user("x", true), ObjectNew: user("unbanned", false)}, queue)
	h.Update(t.Context(), event.UpdateEvent{ObjectOld: user("x", false), ObjectNew: user("banned", true)}, queue)
	h.Delete(t.Context(), event.DeleteEvent{Object: user("deleted", false)}, queue)
	got := map[string]int{}
	for queue.Len() > 0 {
		request, priority, _ := queue.GetWithPriority()
		got[request.Name] = priority
		queue.Done(request)
	}
	g.Expect(got).To(HaveKeyWithValue("banned", revocationPriority))
	g.Expect(got).To(HaveKeyWithValue("deleted", revocationPriority))
	g.Expect(got).To(HaveKeyWithValue("new", 0))
	g.Expect(got).To(HaveKeyWithValue("unbanned", 0))
}

func TestChangedSubjects_leadsToWhoChanged(t *testing.T) {
	binding := func(userIDs ...string) *rbacv1.RoleBinding {
		b := &rbacv1.RoleBinding{}
		for _, id := range userIDs {
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.UserKind, Name: "clerk:" + id})
		}
		b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "user_group"}, rbacv1.Subject{Kind: rbacv1.UserKind, Name: "root"})
		return b
	}
	h := changedSubjects(func(_ context.Context, _ *rbacv1.RoleBinding, userID string) []reconcile.Request {
		return []reconcile.Request{requestFor(clerkv1alpha1.DefaultInstanceName, userID)}
	})
	for name, tc := range map[string]struct {
		send func(priorityqueue.PriorityQueue[reconcile.Request])
		want []string
	}{
		"initial list": {send: func(q priorityqueue.PriorityQueue[reconcile.Request]) {
			h.Create(t.Context(), event.CreateEvent{Object: binding("user_1"), IsInInitialList: true}, q)
		}},
		"created": {want: []string{"user-1", "user-2"}, send: func(q priorityqueue.PriorityQueue[reconcile.Request]) {
			h.Create(t.Context(), event.CreateEvent{Object: binding("user_1", "user_2")}, q)
		}},
		"changed": {want: []string{"user-1", "user-4"}, send: func(q priorityqueue.PriorityQueue[reconcile.Request]) {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: binding("user_1", "user_2", "user_3"), ObjectNew: binding("user_3", "user_2", "user_4")}, q)
		}},
		"deleted": {want: []string{"user-1"}, send: func(q priorityqueue.PriorityQueue[reconcile.Request]) {
			h.Delete(t.Context(), event.DeleteEvent{Object: binding("user_1")}, q)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			queue := priorityqueue.New[reconcile.Request]("test")
			defer queue.ShutDown()
			tc.send(queue)
			var got []string
			for queue.Len() > 0 {
				request, _ := queue.Get()
				got = append(got, request.Name)
				queue.Done(request)
			}
			slices.Sort(got)
			g.Expect(got).To(Equal(tc.want))
		})
	}
}
