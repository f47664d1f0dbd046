// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerk

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// User is what is read of a user in an event or a listing.
type User struct {
	ID                    string            `json:"id"`
	ExternalID            string            `json:"external_id"`
	Username              string            `json:"username"`
	FirstName             string            `json:"first_name"`
	LastName              string            `json:"last_name"`
	PrimaryEmailAddressID string            `json:"primary_email_address_id"`
	EmailAddresses        few[EmailAddress] `json:"email_addresses"`
	Banned                *forbidding       `json:"banned"`
	Deprovisioned         *forbidding       `json:"deprovisioned"`
	PublicMetadata        json.RawMessage   `json:"public_metadata"`
	CreatedAt             epoch             `json:"created_at"`
	UpdatedAt             epoch             `json:"updated_at"`
}

// EmailAddress is one of a user's addresses.
type EmailAddress struct {
	ID           string `json:"id"`
	EmailAddress string `json:"email_address"`
	Verification struct {
		Status string `json:"status"`
	} `json:"verification"`
}

// primaryEmail returns the user's primary address, never simply the first one: others can be unverified claims.
func (u *User) primaryEmail() (address string, verified bool) {
	if u.PrimaryEmailAddressID == "" {
		return "", false
	}
	for _, email := range u.EmailAddresses {
		if email.ID == u.PrimaryEmailAddressID {
			return email.EmailAddress, email.Verification.Status == "verified"
		}
	}
	return "", false
}

// Organization is what is read of an organization in an event or a listing.
type Organization struct {
	ID                    string          `json:"id"`
	Name                  string          `json:"name"`
	Slug                  string          `json:"slug"`
	CreatedBy             string          `json:"created_by"`
	MaxAllowedMemberships wholeNumber     `json:"max_allowed_memberships"`
	PublicMetadata        json.RawMessage `json:"public_metadata"`
	CreatedAt             epoch           `json:"created_at"`
	UpdatedAt             epoch           `json:"updated_at"`
}

// Membership is what is read of an organization membership in an event or a listing.
type Membership struct {
	ID             string       `json:"id"`
	Role           string       `json:"role"`
	Organization   Organization `json:"organization"`
	PublicUserData struct {
		UserID string `json:"user_id"`
	} `json:"public_user_data"`
	CreatedAt epoch `json:"created_at"`
	UpdatedAt epoch `json:"updated_at"`
}

// forbidding is a flag that takes access away, so whatever is sent and is not a clear no is a yes. What is absent or null
// is neither: a pointer to a flag is nil then.
type forbidding bool

// UnmarshalJSON reads false as false and everything else as true.
func (f *forbidding) UnmarshalJSON(data []byte) error {
	*f = string(data) != "false"
	return nil
}

// wholeNumber is a number, or nothing where what was sent is none: a limit that cannot be read is not a limit of 0.
type wholeNumber struct{ *int64 }

// UnmarshalJSON reads a whole number; whatever else it is given is nothing.
func (n *wholeNumber) UnmarshalJSON(data []byte) error {
	if number, err := strconv.ParseInt(string(data), 10, 64); err == nil {
		n.int64 = &number
	}
	return nil
}

// epoch is a time that Clerk sends as a number of milliseconds or, in some documents and examples, of seconds.
type epoch struct{ time.Time }

const (
	// secondsBelow tells the two units apart: as seconds it is the year 5138, as milliseconds 1973.
	secondsBelow = 1e11
	// latest bounds what is believed (the year 2100, in milliseconds): a time far ahead would freeze an object, since
	// nothing older than it is accepted any more.
	latest = 4102444800000
)

// UnmarshalJSON reads a number, or a number in a string; whatever is no time after 1970 and before 2100 is no time.
func (e *epoch) UnmarshalJSON(data []byte) error {
	number, err := strconv.ParseFloat(strings.Trim(string(data), `"`), 64)
	if number < secondsBelow {
		number *= 1000
	}
	if err == nil && number > 0 && number < latest {
		e.Time = time.UnixMicro(int64(number * 1000)).UTC()
	}
	return nil
}
