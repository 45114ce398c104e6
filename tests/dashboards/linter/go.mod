module tools

go 1.26

// tests/dashboards/install adds the linter itself, in the version of tests/versions.

replace github.com/grafana/grafana/apps/dashboard => ./v2

replace github.com/grafana/loki/v3 => ./loki
