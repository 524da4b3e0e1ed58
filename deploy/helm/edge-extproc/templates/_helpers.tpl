{{- define "edge-extproc.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "edge-extproc.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "edge-extproc.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "edge-extproc.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "edge-extproc.selector" -}}
app.kubernetes.io/name: {{ include "edge-extproc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "edge-extproc.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "edge-extproc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "edge-extproc.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "edge-extproc.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The reference of an image. Takes [image, default tag]. */}}
{{- define "edge-extproc.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "edge-extproc.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Envoy opens the workers' sockets, which have mode 0600: both run as one user. */}}
{{- define "edge-extproc.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* edge.yaml: the value `config`, and what belongs to the pod. */}}
{{- define "edge-extproc.config" -}}
{{- $config := .Values.config -}}
{{- if not $config -}}
{{- fail "`config` is missing: give the gateway's configuration (auth, callers, providers, models) as a value" -}}
{{- end -}}
{{- $own := dict "listen" (list "address" "port") "admin" (list "address" "port") "agent" (list "workers" "state_dir" "sockets" "tcp" "shutdown_grace") "envoy" (list "concurrency") -}}
{{- range $section, $keys := $own -}}
{{- range $keys -}}
{{- if hasKey (default dict (get $config $section)) . -}}
{{- fail (printf "config.%s.%s is set by the chart: see the chart's own values `ports`, `workers`, `central`, `shutdownGraceSeconds` and `envoy.concurrency`" $section .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $any := ternary "127.0.0.1" "0.0.0.0" (eq .Values.mode "sidecar") -}}
{{- $agent := dict "workers" (int .Values.workers) "state_dir" "/var/lib/edge" "sockets" "/run/edge" "shutdown_grace" (printf "%ds" (int .Values.shutdownGraceSeconds)) -}}
{{- if eq .Values.mode "central" -}}
{{- $service := printf "%s.%s.svc.%s" (include "edge-extproc.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- $tcp := dict "address" "0.0.0.0" "port" (int .Values.central.port) "hosts" (default (list $service) .Values.central.hosts) -}}
{{- if .Values.central.tls.existingSecret -}}
{{- $_ := set $tcp "tls" (dict "ca" "/etc/edge-tls/ca.crt" "certificate" "/etc/edge-tls/tls.crt" "private_key" "/etc/edge-tls/tls.key" "server_name" (required "central.tls.serverName is missing: the name in the workers' certificate" .Values.central.tls.serverName)) -}}
{{- else if .Values.central.allowPlaintext -}}
{{- $_ := set $tcp "allow_plaintext" true -}}
{{- else -}}
{{- fail "mode central needs central.tls.existingSecret, or central.allowPlaintext: true in a network that encrypts and lets only Envoy in" -}}
{{- end -}}
{{- $_ := set $agent "tcp" $tcp -}}
{{- end -}}
{{- $pod := dict "listen" (dict "address" $any "port" (int .Values.ports.http)) "admin" (dict "address" "0.0.0.0" "port" (int .Values.ports.admin)) "agent" $agent "envoy" (dict "concurrency" (int .Values.envoy.concurrency)) -}}
{{- if .Values.valkey.enabled -}}
{{- if (default dict $config.limiter).url -}}
{{- fail "valkey.enabled and config.limiter.url are both set: leave one of them out" -}}
{{- end -}}
{{- $_ := set $pod "limiter" (dict "url" (printf "redis://%s-valkey:6379/0" (include "edge-extproc.fullname" .))) -}}
{{- end -}}
{{- $limiter := default dict $config.limiter -}}
{{- if and (or .Values.valkey.enabled $limiter.url) (not $limiter.replicas) -}}
{{- $_ := set $pod "limiter" (merge (dict "replicas" "auto") (default dict $pod.limiter)) -}}
{{- end -}}
{{- if .Values.postgresql.enabled -}}
{{- if (default dict $config.store).database -}}
{{- fail "postgresql.enabled and config.store.database are both set: leave one of them out" -}}
{{- end -}}
{{- $_ := set $pod "store" (dict "database" (dict "env" "EDGE_DATABASE_URL")) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $config) $pod) -}}
{{- end -}}
