// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	clerkv1alpha1 "github.com/clerk-operator/clerk-operator/api/v1alpha1"
)

const namespace = "clerk-operator-system"

var errUnavailable = errors.New("the API server is unavailable")

func newFake(g Gomega, objects ...client.Object) *fake.ClientBuilder {
	scheme := runtime.NewScheme()
	g.Expect(corev1.AddToScheme(scheme)).To(Succeed())
	g.Expect(clerkv1alpha1.AddToScheme(scheme)).To(Succeed())
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
}

// clerkInstance has a UID, as every object that the API server knows: without one it stands for the environment.
func clerkInstance(name string, refs ...clerkv1alpha1.SecretKeyReference) *clerkv1alpha1.ClerkInstance {
	return &clerkv1alpha1.ClerkInstance{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)},
		Spec:       clerkv1alpha1.ClerkInstanceSpec{Webhook: clerkv1alpha1.ClerkInstanceWebhook{SigningSecrets: refs}},
	}
}

func secret(namespace, name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

func ref(name, key string) clerkv1alpha1.SecretKeyReference {
	return clerkv1alpha1.SecretKeyReference{Name: name, Key: key}
}

func TestResolver_get(t *testing.T) {
	for name, tc := range map[string]struct {
		objects           []client.Object
		environment, name string
		wantErr           error
		wantUID           types.UID
	}{
		"by name":                               {[]client.Object{clerkInstance("prod"), clerkInstance("dev")}, "", "prod", nil, "uid-of-prod"},
		"default by name":                       {[]client.Object{clerkInstance("default")}, "", "default", nil, "uid-of-default"},
		"object before the environment":         {[]client.Object{clerkInstance("default")}, secretOne, "default", nil, "uid-of-default"},
		"first run":                             {nil, secretOne, "default", nil, ""},
		"first run, unusable secret":            {nil, "nonsense", "default", nil, ""},
		"nothing configured":                    {nil, "", "default", ErrNotConfigured, ""},
		"environment is white space":            {nil, " \n\t", "default", ErrNotConfigured, ""},
		"another name in a first run":           {nil, secretOne, "prod", ErrNotFound, ""},
		"another name, nothing configured":      {nil, "", "prod", ErrNotFound, ""},
		"default while there is another":        {[]client.Object{clerkInstance("prod")}, secretOne, "default", ErrNotFound, ""},
		"default, another, no environment":      {[]client.Object{clerkInstance("prod")}, "", "default", ErrNotFound, ""},
		"another name while there is a default": {[]client.Object{clerkInstance("default")}, secretOne, "prod", ErrNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			got, err := NewResolver(newFake(g, tc.objects...).Build(), namespace, tc.environment).Get(t.Context(), tc.name)
			if tc.wantErr != nil {
				g.Expect(err).To(MatchError(tc.wantErr))
				g.Expect(got).To(BeNil())
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got.Name).To(Equal(tc.name))
			g.Expect(got.UID).To(Equal(tc.wantUID))
			g.Expect(got.UsernamePrefix()).To(Equal("clerk:"))
			g.Expect(got.UserProfile()).To(Equal(clerkv1alpha1.UserProfileFull))
		})
	}
}

// An outage must not look like a missing instance: the sender would not be told to come again.
func TestResolver_passesTheReadersErrorsOn(t *testing.T) {
	failing := func(g Gomega, funcs interceptor.Funcs, objects ...client.Object) *Resolver {
		return NewResolver(newFake(g, objects...).WithInterceptorFuncs(funcs).Build(), namespace, secretOne)
	}
	t.Run("reading the instance", func(t *testing.T) {
		g := NewWithT(t)
		_, err := failing(g, interceptor.Funcs{
			Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
				return errUnavailable
			},
		}).Get(t.Context(), "default")
		g.Expect(err).To(MatchError(errUnavailable))
	})
	t.Run("listing instances", func(t *testing.T) {
		g := NewWithT(t)
		_, err := failing(g, interceptor.Funcs{
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
				return errUnavailable
			},
		}).Get(t.Context(), "default")
		g.Expect(err).To(MatchError(errUnavailable))
	})
	t.Run("reading one of two secrets", func(t *testing.T) {
		g := NewWithT(t)
		verifiers, problems, err := failing(g, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
				if key.Name == "second" {
					return errUnavailable
				}
				return c.Get(ctx, key, o, options...)
			},
		}, secret(namespace, "first", map[string]string{"k": secretOne})).
			Verifiers(t.Context(), clerkInstance("default", ref("first", "k"), ref("second", "k")))
		g.Expect(err).To(MatchError(errUnavailable))
		g.Expect(verifiers).To(BeEmpty())
		g.Expect(problems).To(BeEmpty())
	})
}

func TestResolver_verifiers(t *testing.T) {
	objects := []client.Object{
		secret(namespace, "good", map[string]string{"one": secretOne, "two": secretTwo + "\n", "empty": "", "quoted": `"` + secretOne + `"`}),
		secret("other-namespace", "elsewhere", map[string]string{"one": secretOne}),
	}
	for name, tc := range map[string]struct {
		instance     *clerkv1alpha1.ClerkInstance
		environment  string
		wantVerifies []string
		wantProblems []string
	}{
		"one": {
			instance:     clerkInstance("default", ref("good", "one")),
			wantVerifies: []string{secretOne},
		},
		"old and new of a rotation": {
			instance:     clerkInstance("default", ref("good", "two"), ref("good", "one")),
			wantVerifies: []string{secretTwo, secretOne},
		},
		"one bad, one good": {
			instance:     clerkInstance("default", ref("good", "quoted"), ref("good", "one")),
			wantVerifies: []string{secretOne},
			wantProblems: []string{`key "quoted" of Secret clerk-operator-system/good: it is in quotes`},
		},
		"no such Secret": {
			instance:     clerkInstance("default", ref("absent", "one")),
			wantProblems: []string{`key "one" of Secret clerk-operator-system/absent: the Secret does not exist`},
		},
		"no such key": {
			instance:     clerkInstance("default", ref("good", "three")),
			wantProblems: []string{`key "three" of Secret clerk-operator-system/good: the Secret has no such key`},
		},
		"empty key": {
			instance:     clerkInstance("default", ref("good", "empty")),
			wantProblems: []string{`key "empty" of Secret clerk-operator-system/good: it is empty`},
		},
		"only in another namespace": {
			instance:     clerkInstance("default", ref("elsewhere", "one")),
			wantProblems: []string{`Secret clerk-operator-system/elsewhere: the Secret does not exist`},
		},
		"every problem is told": {
			instance:     clerkInstance("default", ref("absent", "a"), ref("good", "b"), ref("good", "empty"), ref("good", "two")),
			wantVerifies: []string{secretTwo},
			wantProblems: []string{"absent: the Secret does not exist", "good: the Secret has no such key", "good: it is empty"},
		},
		"the environment is not for an object": {
			instance:     clerkInstance("default", ref("absent", "a")),
			environment:  secretOne,
			wantProblems: []string{"absent: the Secret does not exist"},
		},
		"environment": {
			instance:     &clerkv1alpha1.ClerkInstance{},
			environment:  secretOne,
			wantVerifies: []string{secretOne},
		},
		"several in the environment": {
			instance:     &clerkv1alpha1.ClerkInstance{},
			environment:  " " + secretTwo + " \n" + secretOne + "\t",
			wantVerifies: []string{secretTwo, secretOne},
		},
		"one bad in the environment": {
			instance:     &clerkv1alpha1.ClerkInstance{},
			environment:  "sk_test_1 " + secretOne,
			wantVerifies: []string{secretOne},
			wantProblems: []string{"CLERK_WEBHOOK_SECRET: it is not whsec_ followed by base64"},
		},
		"nothing": {instance: clerkInstance("default"), environment: secretOne},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			verifiers, problems, err := NewResolver(newFake(g, objects...).Build(), namespace, tc.environment).
				Verifiers(t.Context(), tc.instance)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(verifiers).To(HaveLen(len(tc.wantVerifies)))
			for i, want := range tc.wantVerifies {
				for _, other := range []string{secretOne, secretTwo} {
					g.Expect(verifies(g, verifiers[i], other)).To(Equal(other == want))
				}
			}
			g.Expect(problems).To(HaveLen(len(tc.wantProblems)))
			for i, want := range tc.wantProblems {
				g.Expect(problems[i].String()).To(ContainSubstring(want))
			}
			expectNothingOf(g, secretOne, Describe(problems))
			expectNothingOf(g, secretTwo, Describe(problems))
		})
	}
}

// The receiver asks for the instance and then for its verifiers.
func TestResolver_firstRunVerifiesWithTheEnvironment(t *testing.T) {
	g := NewWithT(t)
	resolver := NewResolver(newFake(g).Build(), namespace, secretOne)
	implicit, err := resolver.Get(t.Context(), clerkv1alpha1.DefaultInstanceName)
	g.Expect(err).NotTo(HaveOccurred())
	verifiers, problems, err := resolver.Verifiers(t.Context(), implicit)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(problems).To(BeEmpty())
	g.Expect(verifiers).To(HaveLen(1))
	g.Expect(verifies(g, verifiers[0], secretOne)).To(BeTrue())
}

func TestDescribe_isOneSentence(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Describe(nil)).To(BeEmpty())
	g.Expect(Describe([]Problem{{Source: "a", Reason: "b"}, {Source: "c", Reason: "d"}})).To(Equal("a: b; c: d"))
}
