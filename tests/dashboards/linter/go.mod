module tools

go 1.26

// tests/install adds the linter itself, in the version of tests/versions.

replace github.com/grafana/grafana/apps/dashboard => ./v2

// The linter's own; replacements are not inherited.
replace github.com/hashicorp/memberlist => github.com/grafana/memberlist v0.3.1-0.20251126142931-6f9f62ab6f86
