// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

const (
	// maxCost bounds one evaluation, in CEL's own units: metadata has at most a few thousand values.
	maxCost = 100_000
	// maxCompiled bounds how many expressions are kept compiled.
	maxCompiled = 1000
	// maxSelected bounds for how many owners the class is remembered.
	maxSelected = 100_000
)

// variables are what an expression is about, by what its class is for.
var variables = map[clerkv1alpha1.TenantKind]string{
	clerkv1alpha1.TenantsOrganizations: "organization",
	clerkv1alpha1.TenantsUsers:         "user",
}

// Selectors evaluates the expressions of classes. Each is compiled once, and which class selects an owner is remembered
// until the owner or a class changes. It is safe for concurrent use.
type Selectors struct {
	envs map[clerkv1alpha1.TenantKind]*cel.Env

	mu       sync.Mutex
	compiled map[source]compiled
	selected map[types.UID]selection
}

// selection is the class that selected a version of an owner, of a version of all classes; empty for none.
type selection struct{ owner, classes, class string }

// source is an expression and what it is about.
type source struct {
	kind       clerkv1alpha1.TenantKind
	expression string
}

type compiled struct {
	program cel.Program
	err     error
}

// NewSelectors returns an empty set of expressions.
func NewSelectors() (*Selectors, error) {
	s := &Selectors{envs: map[clerkv1alpha1.TenantKind]*cel.Env{}, compiled: map[source]compiled{}, selected: map[types.UID]selection{}}
	for kind, name := range variables {
		env, err := cel.NewEnv(cel.OptionalTypes(), cel.Variable(name, cel.MapType(cel.StringType, cel.DynType)))
		if err != nil {
			return nil, fmt.Errorf("building the environment of expressions: %w", err)
		}
		s.envs[kind] = env
	}
	return s, nil
}

// Check says what is wrong with a class's expression, if it has one.
func (s *Selectors) Check(class *clerkv1alpha1.ClerkTenantClass) error {
	selector := class.Spec.Selector
	if selector == nil || selector.Expression == "" {
		return nil
	}
	return s.compile(source{class.TenantKind(), selector.Expression}).err
}

func (s *Selectors) compile(of source) compiled {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.compiled[of]; ok {
		return known
	}
	if len(s.compiled) >= maxCompiled {
		clear(s.compiled)
	}
	c := build(s.envs[of.kind], of.expression)
	s.compiled[of] = c
	return c
}

func build(env *cel.Env, expression string) compiled {
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return compiled{err: issues.Err()}
	}
	if ast.OutputType() != cel.BoolType && ast.OutputType() != cel.DynType {
		return compiled{err: fmt.Errorf("it is of type %s and must be a bool", ast.OutputType())}
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost))
	return compiled{program: program, err: err}
}

// Select returns the class of an owner: of those that select it the one with the highest priority, then the first by
// name; nil when none does. A class that is being deleted selects nothing, and neither does one whose expression cannot
// be evaluated for the owner.
func (s *Selectors) Select(classes []clerkv1alpha1.ClerkTenantClass, owner Owner) *clerkv1alpha1.ClerkTenantClass {
	if owner.GetUID() == "" || owner.GetResourceVersion() == "" {
		return s.selectAnew(classes, owner)
	}
	now := selection{owner: owner.GetResourceVersion(), classes: versionOf(classes)}
	s.mu.Lock()
	known, ok := s.selected[owner.GetUID()]
	s.mu.Unlock()
	if now.class = known.class; !ok || known != now {
		class := s.selectAnew(classes, owner)
		now.class = ""
		if class != nil {
			now.class = class.Name
		}
		s.mu.Lock()
		if len(s.selected) >= maxSelected {
			clear(s.selected)
		}
		s.selected[owner.GetUID()] = now
		s.mu.Unlock()
		return class
	}
	for i := range classes {
		if classes[i].Name == now.class {
			return &classes[i]
		}
	}
	return nil
}

// versionOf tells apart every state of classes.
func versionOf(classes []clerkv1alpha1.ClerkTenantClass) string {
	var version []byte
	for i := range classes {
		version = fmt.Appendf(version, "%s %d %t,", classes[i].UID, classes[i].Generation, classes[i].DeletionTimestamp.IsZero())
	}
	return string(version)
}

func (s *Selectors) selectAnew(classes []clerkv1alpha1.ClerkTenantClass, owner Owner) *clerkv1alpha1.ClerkTenantClass {
	var selected *clerkv1alpha1.ClerkTenantClass
	for i := range classes {
		class := &classes[i]
		if !class.DeletionTimestamp.IsZero() || selected != nil && compareClasses(class, selected) > 0 {
			continue
		}
		if selects, err := s.Selects(class, owner); err == nil && selects {
			selected = class
		}
	}
	return selected
}

// Selects says whether a class is for an owner. The error says why its expression cannot be evaluated, and holds nothing
// of what Clerk sent.
func (s *Selectors) Selects(class *clerkv1alpha1.ClerkTenantClass, owner Owner) (bool, error) {
	if class.TenantKind() != KindOf(owner) || !lists(class.Spec.Selector, owner) {
		return false, nil
	}
	if class.Spec.Selector.Expression == "" {
		return true, nil
	}
	kind := class.TenantKind()
	c := s.compile(source{kind, class.Spec.Selector.Expression})
	if c.err != nil {
		return false, errors.New("it is not valid")
	}
	result, _, err := c.program.Eval(map[string]any{variables[kind]: facts(owner)})
	if err != nil {
		return false, explain(err)
	}
	isTrue, ok := result.Value().(bool)
	if !ok {
		return false, errors.New("its value is no bool")
	}
	return isTrue, nil
}

// explain tells why an evaluation failed without what it failed on: CEL's own words can hold values of metadata.
func explain(err error) error {
	switch message := err.Error(); {
	case strings.Contains(message, "cost limit exceeded"):
		return errors.New("it costs too much to evaluate; loops in loops over metadata do")
	case strings.Contains(message, "no such key"):
		return errors.New("it reads a key that is not there; read it as .?key.orValue('')")
	case strings.Contains(message, "no such overload"):
		return errors.New("it compares or combines a value of another type than it expects")
	}
	return errors.New("its evaluation fails")
}

// facts are what of an owner can decide on its class: of an organization nothing that its own administrators can change,
// and of a user nothing that the user can.
func facts(owner Owner) map[string]any {
	switch o := owner.(type) {
	case *clerkv1alpha1.ClerkOrganization:
		return map[string]any{
			"organizationID":        o.Spec.OrganizationID,
			"instanceName":          o.Spec.InstanceName,
			"createdBy":             o.Spec.CreatedBy,
			"maxAllowedMemberships": ptr.Deref(o.Spec.MaxAllowedMemberships, 0),
			"publicMetadata":        decoded(o.Spec.PublicMetadata),
			"plan":                  o.Spec.Billing.Plan,
		}
	case *clerkv1alpha1.ClerkUser:
		return map[string]any{
			"userID":         o.Spec.UserID,
			"instanceName":   o.Spec.InstanceName,
			"externalID":     o.Spec.ExternalID,
			"publicMetadata": decoded(o.Spec.PublicMetadata),
			"plan":           o.Spec.Billing.Plan,
		}
	}
	return nil
}

func decoded(metadata *apiextensionsv1.JSON) map[string]any {
	values := map[string]any{}
	if metadata == nil {
		return values
	}
	if err := json.Unmarshal(metadata.Raw, &values); err != nil || values == nil {
		return map[string]any{} // the API server lets nothing but an object be stored
	}
	return values
}
