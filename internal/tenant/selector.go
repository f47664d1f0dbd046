// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

const (
	// maxCost bounds one evaluation, in CEL's own units: metadata has at most a few thousand values.
	maxCost = 100_000
	// maxCompiled bounds how many expressions are kept compiled.
	maxCompiled = 1000
)

// Selectors evaluates the expressions of classes. Each is compiled once. It is safe for concurrent use.
type Selectors struct {
	env *cel.Env

	mu       sync.Mutex
	compiled map[string]compiled
}

type compiled struct {
	program cel.Program
	err     error
}

// NewSelectors returns an empty set of expressions.
func NewSelectors() (*Selectors, error) {
	env, err := cel.NewEnv(cel.OptionalTypes(), cel.Variable("organization", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, fmt.Errorf("building the environment of expressions: %w", err)
	}
	return &Selectors{env: env, compiled: map[string]compiled{}}, nil
}

// Check says what is wrong with an expression.
func (s *Selectors) Check(expression string) error { return s.compile(expression).err }

func (s *Selectors) compile(expression string) compiled {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.compiled[expression]; ok {
		return known
	}
	if len(s.compiled) >= maxCompiled {
		clear(s.compiled)
	}
	c := s.build(expression)
	s.compiled[expression] = c
	return c
}

func (s *Selectors) build(expression string) compiled {
	ast, issues := s.env.Compile(expression)
	if issues.Err() != nil {
		return compiled{err: issues.Err()}
	}
	if ast.OutputType() != cel.BoolType && ast.OutputType() != cel.DynType {
		return compiled{err: fmt.Errorf("it is of type %s and must be a bool", ast.OutputType())}
	}
	program, err := s.env.Program(ast, cel.CostLimit(maxCost))
	return compiled{program: program, err: err}
}

// Select returns the class of an organization: of those that select it the one with the highest priority, then the first
// by name; nil when none does. A class that is being deleted selects nothing, and neither does one whose expression
// cannot be evaluated for the organization.
func (s *Selectors) Select(
	classes []clerkv1alpha1.ClerkTenantClass, organization *clerkv1alpha1.ClerkOrganization,
) *clerkv1alpha1.ClerkTenantClass {
	var selected *clerkv1alpha1.ClerkTenantClass
	for i := range classes {
		class := &classes[i]
		if !class.DeletionTimestamp.IsZero() || selected != nil && compareClasses(class, selected) > 0 {
			continue
		}
		if s.selects(class.Spec.Selector, organization) {
			selected = class
		}
	}
	return selected
}

func (s *Selectors) selects(
	selector *clerkv1alpha1.ClerkTenantClassSelector, organization *clerkv1alpha1.ClerkOrganization,
) bool {
	if !lists(selector, organization) {
		return false
	}
	return selector.Expression == "" || s.isTrue(selector.Expression, organization)
}

func (s *Selectors) isTrue(expression string, organization *clerkv1alpha1.ClerkOrganization) bool {
	c := s.compile(expression)
	if c.err != nil {
		return false
	}
	result, _, err := c.program.Eval(map[string]any{"organization": facts(organization)})
	if err != nil {
		return false
	}
	isTrue, ok := result.Value().(bool)
	return ok && isTrue
}

// facts are what of an organization can decide on its class: nothing that its own administrators can change.
func facts(organization *clerkv1alpha1.ClerkOrganization) map[string]any {
	metadata := map[string]any{}
	if raw := organization.Spec.PublicMetadata; raw != nil {
		if err := json.Unmarshal(raw.Raw, &metadata); err != nil {
			metadata = map[string]any{} // the API server lets nothing but an object be stored
		}
	}
	return map[string]any{
		"organizationID":        organization.Spec.OrganizationID,
		"instanceName":          organization.Spec.InstanceName,
		"createdBy":             organization.Spec.CreatedBy,
		"maxAllowedMemberships": ptr.Deref(organization.Spec.MaxAllowedMemberships, 0),
		"publicMetadata":        metadata,
	}
}
