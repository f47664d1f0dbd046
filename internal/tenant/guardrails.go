// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

// Names of what limits a tenant. They begin with clerk so that they are told from what tenants make.
const (
	QuotaName     = "clerk-quota"
	LimitsName    = "clerk-limits"
	IsolationName = "clerk-isolation"
)

// Guardrails are what limits a tenant. What the class does not ask for is nil.
type Guardrails struct {
	Quota    *corev1ac.ResourceQuotaApplyConfiguration
	Limits   *corev1ac.LimitRangeApplyConfiguration
	Policies []*networkingv1ac.NetworkPolicyApplyConfiguration
}

// BuildGuardrails returns what limits a tenant in its namespace, as its class wants it.
func BuildGuardrails(
	namespace string, owner Owner, class *clerkv1alpha1.ClerkTenantClass,
) (*Guardrails, error) {
	g := &Guardrails{}
	if class.Spec.Quota != nil {
		spec, err := applied[corev1ac.ResourceQuotaSpecApplyConfiguration](class.Spec.Quota)
		if err != nil {
			return nil, fmt.Errorf("spec.quota: %w", err)
		}
		g.Quota = corev1ac.ResourceQuota(QuotaName, namespace).WithLabels(Labels(owner)).WithSpec(spec)
	}
	if class.Spec.Limits != nil {
		spec, err := applied[corev1ac.LimitRangeSpecApplyConfiguration](withDefaultLimits(class.Spec.Limits))
		if err != nil {
			return nil, fmt.Errorf("spec.limits: %w", err)
		}
		g.Limits = corev1ac.LimitRange(LimitsName, namespace).WithLabels(Labels(owner)).WithSpec(spec)
	}
	policies := map[string]*networkingv1.NetworkPolicySpec{}
	if class.Spec.NetworkIsolation != clerkv1alpha1.NetworkOpen {
		policies[IsolationName] = isolation()
	}
	for _, policy := range class.Spec.NetworkPolicies {
		policies["clerk-"+policy.Name] = withPolicyDefaults(policy.Spec)
	}
	for _, name := range sortedKeys(policies) {
		spec, err := applied[networkingv1ac.NetworkPolicySpecApplyConfiguration](policies[name])
		if err != nil {
			return nil, fmt.Errorf("spec.networkPolicies: %s: %w", name, err)
		}
		g.Policies = append(g.Policies,
			networkingv1ac.NetworkPolicy(name, namespace).WithLabels(Labels(owner)).WithSpec(spec))
	}
	return g, nil
}

// isolation lets the pods of a namespace reach each other and the cluster's DNS, and nothing else in either direction.
func isolation() *networkingv1.NetworkPolicySpec {
	dns := intstr.FromInt32(53)
	everyPod := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	dnsNamespace := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
		MatchLabels: map[string]string{corev1.LabelMetadataName: metav1.NamespaceSystem},
	}}
	return &networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{everyPod}}},
		Egress: []networkingv1.NetworkPolicyEgressRule{
			{To: []networkingv1.NetworkPolicyPeer{everyPod}},
			{
				To: []networkingv1.NetworkPolicyPeer{dnsNamespace},
				Ports: []networkingv1.NetworkPolicyPort{
					{Protocol: new(corev1.ProtocolUDP), Port: &dns},
					{Protocol: new(corev1.ProtocolTCP), Port: &dns},
				},
			},
		},
	}
}

// withDefaultLimits returns limits with what the API server would fill in. Lists are owned as a whole, defaults included:
// what is applied without them would never look as it was applied, and be applied at every reconcile.
func withDefaultLimits(limits *corev1.LimitRangeSpec) *corev1.LimitRangeSpec {
	limits = limits.DeepCopy()
	for i := range limits.Limits {
		item := &limits.Limits[i]
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		item.Default = filled(item.Default, item.Max)
		item.DefaultRequest = filled(filled(item.DefaultRequest, item.Default), item.Min)
	}
	return limits
}

// filled returns resources with those of others that they lack.
func filled(resources, others corev1.ResourceList) corev1.ResourceList {
	result := corev1.ResourceList{}
	maps.Copy(result, others)
	maps.Copy(result, resources)
	return result
}

// withPolicyDefaults returns a policy with what the API server would fill in, for the same reason; and since it fills the
// types in once, when the policy is made: they would be nobody's after that, and not follow the class.
func withPolicyDefaults(spec *networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicySpec {
	spec = spec.DeepCopy()
	if len(spec.PolicyTypes) == 0 {
		spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(spec.Egress) > 0 {
			spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	for i := range spec.Ingress {
		setProtocols(spec.Ingress[i].Ports)
	}
	for i := range spec.Egress {
		setProtocols(spec.Egress[i].Ports)
	}
	return spec
}

func setProtocols(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = new(corev1.ProtocolTCP)
		}
	}
}

// applied turns a part of an object into its apply configuration, which has the same JSON.
func applied[T any](from any) (*T, error) {
	encoded, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	into := new(T)
	return into, json.Unmarshal(encoded, into)
}
