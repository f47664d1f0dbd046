// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/clerk-operator/clerk-operator/test/installation"
)

// auditPolicy makes the API server write down every request of the operator's service account but watches. The raw
// client is the same account, and costs the API server the same.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:` + installation.Namespace + ":" + installation.ServiceAccount + `"]
  verbs: [create, update, patch, delete, deletecollection, get, list]
- level: None
`

// auditing prepares an audit log in a folder, and returns the API server's flags for it and its path.
func auditing(dir string) (args []string, log string, err error) {
	policy := filepath.Join(dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, "", fmt.Errorf("writing the audit policy: %w", err)
	}
	log = filepath.Join(dir, "audit.log")
	return []string{"--audit-policy-file=" + policy, "--audit-log-path=" + log}, log, nil
}

// requests counts the requests of the operator's service account by resource, such as clerkusers/status.
type requests struct {
	writes, reads map[string]int
	// refused are the writes that were answered with an error; they are counted as writes, too.
	refused map[string]int
}

func newRequests() requests {
	return requests{writes: map[string]int{}, reads: map[string]int{}, refused: map[string]int{}}
}

// add adds up the requests of several rounds.
func (r requests) add(other requests) {
	for _, pair := range [][2]map[string]int{{r.writes, other.writes}, {r.reads, other.reads}, {r.refused, other.refused}} {
		for resource, n := range pair[1] {
			pair[0][resource] += n
		}
	}
}

// auditMark is a place in the audit log.
func (w *world) auditMark() (int64, error) {
	info, err := os.Stat(w.audit)
	if err != nil {
		return 0, fmt.Errorf("finding the audit log: %w", err)
	}
	return info.Size(), nil
}

// auditSince counts what was audited since a mark.
func (w *world) auditSince(mark int64) (requests, error) {
	log, err := os.Open(w.audit)
	if err != nil {
		return requests{}, fmt.Errorf("opening the audit log: %w", err)
	}
	defer func() { _ = log.Close() }()
	if _, err := log.Seek(mark, io.SeekStart); err != nil {
		return requests{}, fmt.Errorf("reading the audit log: %w", err)
	}
	return countRequests(log)
}

// countRequests reads audit events, one a line.
func countRequests(log io.Reader) (requests, error) {
	counted := newRequests()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Verb, RequestURI string
			ObjectRef        struct{ Resource, Subresource string }
			// The status is absent where the answer is an object.
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return requests{}, fmt.Errorf("reading an audit event: %w", err)
		}
		resource := event.ObjectRef.Resource
		switch {
		case resource == "":
			continue // discovery
		case strings.Contains(event.RequestURI, "dryRun="):
			continue // a probe of the policies, which writes nothing
		case event.ObjectRef.Subresource != "":
			resource += "/" + event.ObjectRef.Subresource
		}
		if event.Verb == "get" || event.Verb == "list" {
			counted.reads[resource]++
			continue
		}
		counted.writes[resource]++
		if event.ResponseStatus.Code >= 300 {
			counted.refused[resource]++
		}
	}
	if err := lines.Err(); err != nil {
		return requests{}, fmt.Errorf("reading the audit log: %w", err)
	}
	return counted, nil
}
