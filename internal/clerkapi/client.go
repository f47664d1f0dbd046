// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/clerk-operator/clerk-operator/internal/clerk"
)

const (
	// Version is the version of the Backend API that every request asks for.
	Version = "2026-05-12"
	// maxAnswer bounds an answer in bytes: a page of users with all the metadata that Clerk allows is far smaller.
	maxAnswer = 64 << 20
	// callTimeout bounds a call with all its attempts, beside what the caller's context allows.
	callTimeout = 50 * time.Second
)

// Client reads one Clerk instance. It is safe for concurrent use.
type Client struct {
	base string
	key  string
	http *retryablehttp.Client
}

// Clients keeps one client for each ClerkInstance, so that all who read an instance share its budget.
type Clients struct {
	metrics *Metrics

	mu     sync.Mutex
	byName map[string]*Client
}

// NewClients returns an empty set of clients.
func NewClients(m *Metrics) *Clients { return &Clients{metrics: m, byName: map[string]*Client{}} }

// For returns the client of a ClerkInstance: the same one for as long as the URL and the secret key stay the same.
func (c *Clients) For(instanceName, baseURL, key string) *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	base := strings.TrimSuffix(baseURL, "/") + "/v1"
	if client := c.byName[instanceName]; client != nil && client.base == base && client.key == key {
		return client
	}
	client := &Client{base: base, key: key, http: newTransport(newLimiter(key), c.metrics, instanceName)}
	c.byName[instanceName] = client
	return client
}

// Forget drops the client of an instance that is gone.
func (c *Clients) Forget(instanceName string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, instanceName)
}

// get asks for a path below the version, decodes the answer into out and returns a time by Clerk's clock from which on
// the answer was true; zero where Clerk does not tell the time.
func (c *Client) get(ctx context.Context, operation, path string, query url.Values, out any) (time.Time, error) {
	current := &call{operation: operation}
	ctx, cancel := context.WithTimeout(withCall(ctx, current), callTimeout)
	defer cancel()
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return time.Time{}, &Error{Operation: operation, cause: err}
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("Clerk-API-Version", Version)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "clerk-operator")
	response, err := c.http.Do(request)
	if err != nil {
		return time.Time{}, &Error{Operation: operation, cause: withoutURL(err)}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case response.StatusCode != http.StatusOK:
		return time.Time{}, newStatusError(operation, response, body)
	case err != nil: // it was cut off
		return time.Time{}, &Error{Operation: operation, cause: err}
	case len(body) > maxAnswer:
		return time.Time{}, &Error{Operation: operation, StatusCode: response.StatusCode, cause: ErrMalformed}
	}
	if err := json.Unmarshal(body, out); err != nil {
		// The decoder's words can quote the answer.
		return time.Time{}, &Error{Operation: operation, StatusCode: response.StatusCode, cause: ErrMalformed}
	}
	return current.readAt, nil
}

// withoutURL leaves the URL out of an error of net/http: the operation says as much, and IDs are not for every log.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// pathTo returns the path of an object. An ID that is none never becomes a path: an empty one would name the collection.
func pathTo(collection, id string, want clerk.Kind, rest ...string) (string, error) {
	if kind, ok := clerk.KindOf(id); !ok || kind != want {
		return "", fmt.Errorf("%q is no ID of a Clerk %s", id, want)
	}
	return "/" + strings.Join(append([]string{collection, id}, rest...), "/"), nil
}
