package engine

import (
	"bytes"
	"math/rand/v2"
)

const tableLevels = 16 // for some 4^16 keys

// table is an ordered map in memory: a skip list, and a map for those who look for one key, most of which are not there.
// A nil value stands for a deleted key. Its owner locks.
type table struct {
	nodes map[string]*node
	head  node
	level int
	size  int // bytes of keys and values, and what they cost around that
	count int
}

type node struct {
	key, value []byte
	next       []*node
}

const nodeCost = 180 // bytes, about: a node and its place in the map

func newTable() *table {
	return &table{nodes: make(map[string]*node), head: node{next: make([]*node, tableLevels)}, level: 1}
}

// seek is the first node whose key is not less than key; prev, if not nil, gets the last node before it on each level.
func (t *table) seek(key []byte, prev *[tableLevels]*node) *node {
	n := &t.head
	for i := t.level - 1; i >= 0; i-- {
		for n.next[i] != nil && bytes.Compare(n.next[i].key, key) < 0 {
			n = n.next[i]
		}
		if prev != nil {
			prev[i] = n
		}
	}
	return n.next[0]
}

func (t *table) get(key []byte) (value []byte, ok bool) {
	if n := t.nodes[string(key)]; n != nil {
		return n.value, true
	}
	return nil, false
}

// set keeps key and value as they are.
func (t *table) set(key, value []byte) {
	if n := t.nodes[string(key)]; n != nil {
		t.size += len(value) - len(n.value)
		n.value = value
		return
	}
	var prev [tableLevels]*node
	t.seek(key, &prev)
	level := 1
	for level < tableLevels && rand.Uint32()&3 == 0 { //nolint:gosec // balance, not secrecy
		level++
	}
	for ; t.level < level; t.level++ {
		prev[t.level] = &t.head
	}
	n := &node{key: key, value: value, next: make([]*node, level)}
	for i := range level {
		n.next[i] = prev[i].next[i]
		prev[i].next[i] = n
	}
	t.nodes[string(key)] = n
	t.size += 2*len(key) + len(value) + nodeCost
	t.count++
}
