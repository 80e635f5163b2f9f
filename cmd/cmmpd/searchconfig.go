package main

import (
	"reflect"

	"cmmpd/storage"
)

// searchConfig says how the search index of each account is kept.
type searchConfig struct {
	Index    bool `toml:"index"`
	From     int  `toml:"from-messages" bounds:"1,1000000"`
	Messages int  `toml:"messages-per-file" bounds:"100,65536"`
	Memory   size `toml:"memory" bounds:"1MiB,2GiB"`
}

func defaultSearch() searchConfig {
	o := storage.DefaultSearch()
	return searchConfig{Index: !o.Off, From: o.Least, Messages: o.Batch, Memory: size(o.Memory)}
}

func (c *searchConfig) check(f *tomlFile) { checkBounds(f, "search", reflect.ValueOf(c).Elem()) }

func (c *searchConfig) options() storage.SearchOptions {
	return storage.SearchOptions{Off: !c.Index, Least: c.From, Batch: c.Messages, Memory: int(c.Memory)}
}
