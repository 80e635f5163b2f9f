package intake

import (
	"context"
	"errors"
	"io"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/storage"
)

// Copy copies messages within an account. Out of Drafts it counts as Append: what is
// confidential and in clear is sealed on its way, or refused.
func (in *Intake) Copy(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	if clear, err := in.inClear(ctx, acct, from, uids, dest); err != nil {
		return storage.CopyResult{}, err
	} else if !clear {
		return from.Copy(ctx, uids, dest)
	}
	return in.carry(ctx, who, acct, from, uids, dest)
}

// Move is Copy, and what was copied leaves from. Where something must be sealed, the
// copies are durable before the drafts go: a crash between leaves both. After an error the
// result is what was moved nevertheless.
func (in *Intake) Move(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	if clear, err := in.inClear(ctx, acct, from, uids, dest); err != nil {
		return storage.CopyResult{}, err
	} else if !clear {
		return from.Move(ctx, uids, dest)
	}
	done, err := in.carry(ctx, who, acct, from, uids, dest)
	if err != nil {
		return done, err
	}
	var drafts imap.UIDSet
	for _, uid := range done.From {
		drafts.AddNum(imap.UID(uid))
	}
	if _, _, err := from.StoreFlags(ctx, drafts, storage.AddFlags, []string{storage.FlagDeleted}, 0); err != nil {
		return storage.CopyResult{}, err
	}
	gone, err := from.Expunge(ctx, &drafts)
	if err == nil {
		return done, nil
	}
	moved := storage.CopyResult{UIDValidity: done.UIDValidity}
	for i, uid := range done.From {
		if gone.Contains(imap.UID(uid)) {
			moved.From, moved.To = append(moved.From, uid), append(moved.To, done.To[i])
		}
	}
	return moved, err
}

// inClear says whether one of the messages must not leave Drafts as it is.
func (in *Intake) inClear(ctx context.Context, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (bool, error) {
	if from.SpecialUse() != drafts || from.Name() == dest {
		return false, nil
	}
	for _, m := range selected(from, uids) {
		data, err := content(ctx, from, m.UID)
		if errors.Is(err, errGone) {
			continue
		} else if err != nil {
			return false, err
		}
		p := &passage{path: policy.Append, text: data, header: message.ParseHeader(data, in.o.Message), index: message.Parse(data, in.o.Message)}
		if err := in.classifyOwn(ctx, p, acct.ID()); err != nil {
			return false, err
		}
		switch in.o.Policy.Requires(p.label) {
		case policy.Withheld:
			return true, nil
		case policy.SMIME:
			if !in.o.Gateway.Inspect(data, p.index).Strong() {
				return true, nil
			}
		}
	}
	return false, nil
}

// carry appends what uids name to dest, in one act, each as Append would keep it.
func (in *Intake) carry(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	var out storage.CopyResult
	var msgs []storage.Append
	size := int64(0)
	all := selected(from, uids)
	for _, m := range all {
		size += m.Size
	}
	if err := in.o.Memory.Acquire(ctx, size); err != nil {
		return out, err
	}
	defer in.o.Memory.Release(size)
	for _, m := range all {
		data, err := content(ctx, from, m.UID)
		if errors.Is(err, errGone) {
			continue
		} else if err != nil {
			return out, err
		}
		out.From = append(out.From, m.UID)
		msgs = append(msgs, storage.Append{Data: data, Flags: m.Flags.List(), InternalDate: m.InternalDate})
	}
	placed, err := in.Append(ctx, who, acct, dest, msgs)
	if err != nil {
		return storage.CopyResult{}, err
	}
	for _, p := range placed {
		out.UIDValidity = p.UIDValidity
		out.To = append(out.To, p.UID)
	}
	return out, nil
}

// selected is the messages of the mailbox that uids name.
func selected(m *storage.Mailbox, uids imap.UIDSet) []storage.Msg {
	var out []storage.Msg
	all, _ := m.Snapshot()
	for _, msg := range all {
		if uids.Contains(imap.UID(msg.UID)) {
			out = append(out, msg)
		}
	}
	return out
}

var errGone = errors.New("expunged meanwhile")

// content is a message as it is served.
func content(ctx context.Context, m *storage.Mailbox, uid uint32) ([]byte, error) {
	c, err := m.Body(ctx, uid)
	if mail.KindOf(err) == mail.NotFound && err != nil {
		return nil, errGone
	} else if err != nil {
		return nil, err
	}
	defer c.Close()
	b := make([]byte, c.Size())
	if _, err := c.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
