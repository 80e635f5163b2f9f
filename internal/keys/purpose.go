package keys

import "context"

type purposeKey struct{}

// For says that what is done with keys under ctx is not done for an account's owner, and what it is done for. A keystore that keeps a record asks Purpose.
func For(ctx context.Context, purpose string) context.Context {
	return context.WithValue(ctx, purposeKey{}, purpose)
}

// Purpose is what For said; empty: it is the owner's own use.
func Purpose(ctx context.Context) string {
	p, _ := ctx.Value(purposeKey{}).(string)
	return p
}
