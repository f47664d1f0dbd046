// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// cached are the kinds that the manager holds in memory, with their scope.
var cached = []struct {
	object client.Object
	scope  meta.RESTScope
}{
	{&clerkv1alpha1.ClerkInstance{}, meta.RESTScopeRoot},
	{&clerkv1alpha1.ClerkTenantClass{}, meta.RESTScopeRoot},
	{&clerkv1alpha1.ClerkUser{}, meta.RESTScopeRoot},
	{&clerkv1alpha1.ClerkOrganization{}, meta.RESTScopeRoot},
	{&clerkv1alpha1.ClerkOrganizationMembership{}, meta.RESTScopeRoot},
	{&clerkv1alpha1.ClerkTombstone{}, meta.RESTScopeRoot},
	{&corev1.Namespace{}, meta.RESTScopeRoot},
	{&corev1.Secret{}, meta.RESTScopeNamespace},
	{&corev1.ResourceQuota{}, meta.RESTScopeNamespace},
	{&corev1.LimitRange{}, meta.RESTScopeNamespace},
	{&rbacv1.RoleBinding{}, meta.RESTScopeNamespace},
	{&networkingv1.NetworkPolicy{}, meta.RESTScopeNamespace},
}

// newMapper returns a mapper that knows the cached kinds, so that a manager can be built while the API server is away. It asks
// the API server about every other kind when that is first used.
func newMapper(config *rest.Config, httpClient *http.Client) (meta.RESTMapper, error) {
	dynamic, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("building the mapper of kinds: %w", err)
	}
	known, err := knownKinds()
	if err != nil {
		return nil, err
	}
	return meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{known, dynamic}}, nil
}

func knownKinds() (meta.RESTMapper, error) {
	known, scheme := meta.NewDefaultRESTMapper(nil), Scheme()
	for _, kind := range cached {
		gvk, err := apiutil.GVKForObject(kind.object, scheme)
		if err != nil {
			return nil, fmt.Errorf("looking up the kind of %T: %w", kind.object, err)
		}
		known.Add(gvk, kind.scope)
	}
	return known, nil
}
