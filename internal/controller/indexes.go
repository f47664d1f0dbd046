// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
	"github.com/clerk-operator/clerk-operator/internal/access"
)

// Cache indexes. Those on Clerk's kinds are selectable fields of the API server, too.
const (
	indexInstanceName   = "spec.instanceName"
	indexOrganizationID = "spec.organizationID"
	indexUserID         = "spec.userID"
	// indexSubject finds the managed bindings that name a user, by the user's ID.
	indexSubject = "subjects.userID"
	// indexOwner finds the managed namespaces of an owner, by the owner's instance and Clerk ID.
	indexOwner = "owner"
)

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	instanceName := func(o client.Object) []string {
		return []string{o.(interface {
			GetMirrored() *clerkv1alpha1.Mirrored
		}).GetMirrored().InstanceName}
	}
	membership := func(o client.Object) *clerkv1alpha1.ClerkOrganizationMembership {
		return o.(*clerkv1alpha1.ClerkOrganizationMembership)
	}
	for _, index := range []struct {
		object client.Object
		field  string
		values client.IndexerFunc
	}{
		{&clerkv1alpha1.ClerkUser{}, indexInstanceName, instanceName},
		{&clerkv1alpha1.ClerkOrganization{}, indexInstanceName, instanceName},
		{&clerkv1alpha1.ClerkOrganizationMembership{}, indexInstanceName, instanceName},
		{&clerkv1alpha1.ClerkOrganizationMembership{}, indexOrganizationID, func(o client.Object) []string {
			return []string{membership(o).Spec.OrganizationID}
		}},
		{&clerkv1alpha1.ClerkOrganizationMembership{}, indexUserID, func(o client.Object) []string {
			return []string{membership(o).Spec.UserID}
		}},
		{&corev1.Namespace{}, indexOwner, func(o client.Object) []string {
			labels := o.GetLabels()
			id := cmp.Or(labels[clerkv1alpha1.LabelOrganizationID], labels[clerkv1alpha1.LabelUserID])
			return []string{labels[clerkv1alpha1.LabelInstance] + "/" + id}
		}},
		{&rbacv1.RoleBinding{}, indexSubject, func(o client.Object) []string {
			return subjectUserIDs(o.(*rbacv1.RoleBinding))
		}},
	} {
		if err := indexer.IndexField(ctx, index.object, index.field, index.values); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.object, index.field, err)
		}
	}
	return nil
}

// subjectUserIDs returns the IDs of the Clerk users that a binding names.
func subjectUserIDs(binding *rbacv1.RoleBinding) []string {
	ids := make([]string, 0, len(binding.Subjects))
	for _, subject := range binding.Subjects {
		if id, ok := access.UserID(subject.Name); ok && subject.Kind == rbacv1.UserKind {
			ids = append(ids, id)
		}
	}
	return ids
}
