// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/clerk-operator/clerk-operator/internal/policy"
)

func answered(code int32, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Message: message}}
}

func TestJudge(t *testing.T) {
	const own = "secrets is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: probe of p"
	probe := policy.Probe{Policy: "p", Message: policy.Message("p")}
	purpose := policy.Probe{Policy: "p"}
	already := apierrors.NewAlreadyExists(schema.GroupResource{Resource: "secrets"}, "clerk-probe")
	for name, c := range map[string]struct {
		probe policy.Probe
		err   error
		want  policy.Answer
	}{
		"let through":                    {probe, nil, policy.DoesNotHold},
		"refused by the policy":          {probe, answered(http.StatusForbidden, own), policy.Holds},
		"refused by another policy":      {probe, answered(http.StatusForbidden, own+"2"), policy.Unknown},
		"refused by RBAC":                {probe, answered(http.StatusForbidden, "cannot create"), policy.Unknown},
		"no such namespace":              {probe, answered(http.StatusNotFound, "not found"), policy.Unknown},
		"not valid":                      {probe, answered(http.StatusUnprocessableEntity, "invalid"), policy.Unknown},
		"it came too far":                {probe, already, policy.DoesNotHold},
		"the deed itself let through":    {purpose, nil, policy.DoesNotHold},
		"the deed itself refused":        {purpose, answered(http.StatusForbidden, "whatever"), policy.Holds},
		"the deed itself came too far":   {purpose, already, policy.DoesNotHold},
		"the role of the deed is gone":   {purpose, answered(http.StatusNotFound, "not found"), policy.Holds},
		"too many requests":              {purpose, answered(http.StatusTooManyRequests, "later"), policy.Unknown},
		"an account that is not known":   {purpose, answered(http.StatusUnauthorized, "who"), policy.Unknown},
		"an error in the API server":     {purpose, answered(http.StatusInternalServerError, own), policy.Unknown},
		"an API server that is away":     {probe, errors.New("connection refused: probe of p"), policy.Unknown},
		"an API server that is too slow": {purpose, context.DeadlineExceeded, policy.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(c.probe.Judge(c.err)).To(Equal(c.want))
		})
	}
}
