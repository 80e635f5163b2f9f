package storage

import (
	"context"

	"cmmpd/internal/mail"
)

// Check verifies every invariant; deep also opens every body.
func (s *Store) Check(ctx context.Context, deep bool) (*Report, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}
