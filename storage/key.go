package storage

import "encoding/binary"

// The keys of the index: a letter, then big-endian numbers, so that they sort. What the values are is in record.go.
const (
	keyPosition  = 'p' // the place in the log up to which the index is written
	keyAccountNo = 'n' // the account number given last
	keyBodyTop   = 'b' // no EMAILID up to here is given to a new body
	keyBoots     = 'o' // how often the store was opened
	keyFormat    = 'f' // progress: which format the index has
	keyAccount   = 'A' // + account ID: accountRecord
	keyName      = 'N' // + account, name hash: mailbox number
	keyMailbox   = 'M' // + account, mailbox: mailboxRecord
	keyCounters  = 'S' // + account, mailbox: counters
	keyUsage     = 'u' // + account: usage
	keyTotal     = 'D' // + department: total
	keySubscribe = 'U' // + account, name hash: sealedText
	keyEntry     = 'E' // + account, mailbox, UID: entryRecord
	keySecret    = 'K' // + account, mailbox, UID: sealed message key and prefix
	keyFlags     = 'L' // + account, mailbox, UID/64: flags that changed since delivery
	keyExpunged  = 'X' // + account, mailbox, mod-sequence: UIDs
	keyCopying   = 'T' // + account, mailbox: copyingRecord
	keyForgotten = 'x' // + account, mailbox: expunge traces up to this mod-sequence are forgotten
	keyMessageID = 'H' // + account, Message-ID hash: thread, label, day
	keyBody      = 'B' // + body: bodyRecord
	keyGarbage   = 'G' // + segment: octets of bodies that nothing refers to
	keyReclaimed = 'R' // + segment: octets that its file had; it is not needed any more
	keyScrub     = 'c' // scrubState
	keyEpoch     = 'e' // + account, epoch: epochRecord
	keyQueue     = 'Q' // + number: queueRecord
	keyQueueDue  = 'q' // + due, number: lane; not of held items
)

func key0(kind byte) []byte { return []byte{kind} }

func keyOf(kind byte, numbers ...uint32) []byte {
	b := make([]byte, 1, 1+4*len(numbers))
	b[0] = kind
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func keyOfAccount(id string) []byte { return append([]byte{keyAccount}, id...) }

func keyOfHash(kind byte, account uint32, h hash) []byte {
	return append(keyOf(kind, account), h[:]...)
}

func keyOf64(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func keyOfExpunge(account, mailbox uint32, modSeq uint64) []byte {
	return binary.BigEndian.AppendUint64(keyOf(keyExpunged, account, mailbox), modSeq)
}

// mailboxOfKey is the mailbox in a key that begins with one.
func mailboxOfKey(key []byte) mailboxKey {
	return mailboxKey{binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint32(key[5:])}
}

// last64 is the number at the end of a key.
func last64(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// last32 is the number at the end of a key.
func last32(key []byte) uint32 { return binary.BigEndian.Uint32(key[len(key)-4:]) }
