// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"encoding/base64"
	"strings"

	svix "github.com/svix/svix-webhooks/go"
)

const (
	secretPrefix = "whsec_"
	// minKey is the shortest key in bytes that is accepted; Svix makes keys of 24. A short key can be guessed.
	minKey = 16
)

// newVerifier returns a verifier for a signing secret, or says what is wrong with the secret. White space around it,
// which a file or an editor leaves there, does not count.
func newVerifier(secret string) (*svix.Webhook, string) {
	secret = strings.TrimSpace(secret)
	encoded := strings.TrimPrefix(secret, secretPrefix)
	switch {
	case encoded == "":
		return nil, "it is empty; copy the endpoint's signing secret (whsec_…) from Clerk's dashboard"
	case strings.ContainsAny(secret, `"'`):
		return nil, "it is in quotes; store the signing secret (whsec_…) without them"
	case strings.HasPrefix(encoded, secretPrefix):
		return nil, "it begins with whsec_ twice"
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	switch {
	case err != nil:
		return nil, "it is not whsec_ followed by base64; copy it again from Clerk's dashboard"
	case len(key) < minKey:
		return nil, "its key is shorter than 16 bytes; copy it again from Clerk's dashboard"
	}
	verifier, err := svix.NewWebhookRaw(key)
	if err != nil {
		return nil, "the verifier refuses it"
	}
	return verifier, ""
}
