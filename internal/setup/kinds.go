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

// crds are objects of the kinds of the operator's own CRDs, which are all cluster-scoped.
var crds = []client.Object{
	&clerkv1alpha1.ClerkInstance{}, &clerkv1alpha1.ClerkTenantClass{}, &clerkv1alpha1.ClerkUser{},
	&clerkv1alpha1.ClerkOrganization{}, &clerkv1alpha1.ClerkOrganizationMembership{}, &clerkv1alpha1.ClerkTombstone{},
}

// cachedKind is a kind that the manager holds in memory.
type cachedKind struct {
	object client.Object
	scope  meta.RESTScope
}

// builtin are the cached kinds of Kubernetes.
var builtin = []cachedKind{
	{&corev1.Namespace{}, meta.RESTScopeRoot},
	{&corev1.Secret{}, meta.RESTScopeNamespace},
	{&corev1.ResourceQuota{}, meta.RESTScopeNamespace},
	{&corev1.LimitRange{}, meta.RESTScopeNamespace},
	{&rbacv1.RoleBinding{}, meta.RESTScopeNamespace},
	{&networkingv1.NetworkPolicy{}, meta.RESTScopeNamespace},
}

// cached returns all kinds that the manager holds in memory.
func cached() []cachedKind {
	kinds := make([]cachedKind, 0, len(crds)+len(builtin))
	for _, object := range crds {
		kinds = append(kinds, cachedKind{object, meta.RESTScopeRoot})
	}
	return append(kinds, builtin...)
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
	for _, kind := range cached() {
		gvk, err := apiutil.GVKForObject(kind.object, scheme)
		if err != nil {
			return nil, fmt.Errorf("looking up the kind of %T: %w", kind.object, err)
		}
		known.Add(gvk, kind.scope)
	}
	return known, nil
}
