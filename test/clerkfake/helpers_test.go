// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkfake_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/clerk-operator/clerk-operator/test/clerkfake"
)

type object = map[string]any

// noon is when the clock of newClerk's instances stands still.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newClerk() *clerkfake.Clerk {
	return clerkfake.New(clerkfake.Config{
		InstanceID: "ins_test", SecretKey: "sk_test_key", Now: func() time.Time { return noon },
	})
}

// answer is one of the Backend API.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a GET request with the instance's key.
func ask(t *testing.T, c *clerkfake.Clerk, target string) answer {
	t.Helper()
	return do(c, request(t, c, target))
}

func request(t *testing.T, c *clerkfake.Clerk, target string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.clerk.com"+target, nil)
	r.Header.Set("Authorization", "Bearer "+c.SecretKey())
	return r
}

func do(c *clerkfake.Clerk, r *http.Request) answer {
	recorder := httptest.NewRecorder()
	c.ServeHTTP(recorder, r)
	return answer{status: recorder.Code, header: recorder.Header(), body: recorder.Body.Bytes()}
}

// decode returns an answer's body.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var content T
	if err := json.Unmarshal(a.body, &content); err != nil {
		t.Fatalf("decoding %q: %v", a.body, err)
	}
	return content
}

// elements returns those of a list, which is an array or an object with one.
func elements(t *testing.T, a answer) []object {
	t.Helper()
	if bytes.HasPrefix(a.body, []byte("[")) {
		return decode[[]object](t, a)
	}
	return decode[struct{ Data []object }](t, a).Data
}

// ids returns the IDs of the elements of a list.
func ids(t *testing.T, a answer) []string {
	t.Helper()
	list := elements(t, a)
	found := make([]string, len(list))
	for i, element := range list {
		found[i], _ = element["id"].(string)
	}
	return found
}

// errorCode returns the code of the only error of an answer.
func errorCode(t *testing.T, a answer) string {
	t.Helper()
	content := decode[struct{ Errors []struct{ Code string } }](t, a)
	if len(content.Errors) != 1 {
		t.Fatalf("%d errors", len(content.Errors))
	}
	return content.Errors[0].Code
}

// populate makes n users (user_0…), two organizations (org_a with every user in it, org_b with the first one).
func populate(g *WithT, c *clerkfake.Clerk, n int) {
	c.Quietly(func() {
		for i := range n {
			c.CreateUser(clerkfake.User{ID: fmt.Sprintf("user_%d", i), Email: fmt.Sprintf("%d@example.com", i)})
		}
		c.CreateOrganization(clerkfake.Organization{ID: "org_a", Name: "Zeta", Slug: "zeta"})
		c.CreateOrganization(clerkfake.Organization{ID: "org_b", Name: "Alpha", Slug: "alpha"})
		for i := range n {
			_, err := c.AddMember("org_a", fmt.Sprintf("user_%d", i), "org:member")
			g.Expect(err).NotTo(HaveOccurred())
		}
		_, err := c.AddMember("org_b", "user_0", "org:billing")
		g.Expect(err).NotTo(HaveOccurred())
	})
}
