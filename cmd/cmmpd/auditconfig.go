package main

import "cmmpd/audit"

// auditSyslog is how records are written as syslog messages.
func (c *config) auditSyslog() audit.Syslog { return audit.Syslog{Host: c.Server.Hostname} }
