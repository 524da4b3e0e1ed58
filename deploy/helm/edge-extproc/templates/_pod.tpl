{{/* The variables of the agent's processes. */}}
{{- define "edge-extproc.env" -}}
{{- if .Values.secrets.existingSecret }}
envFrom: [{secretRef: {name: {{ .Values.secrets.existingSecret }}}}]
{{- end }}
{{- if or .Values.postgresql.enabled .Values.extraEnv }}
env:
  {{- if .Values.postgresql.enabled }}
  - name: EDGE_POSTGRES_PASSWORD
    valueFrom:
      secretKeyRef:
        name: {{ required "postgresql.enabled needs secrets.existingSecret with the password" .Values.secrets.existingSecret }}
        key: {{ .Values.postgresql.passwordKey }}
  - name: EDGE_DATABASE_URL
    value: postgresql://edge:$(EDGE_POSTGRES_PASSWORD)@{{ include "edge-extproc.fullname" . }}-postgresql:5432/edge
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "edge-extproc.mounts" -}}
- {name: edge-config, mountPath: /etc/edge, readOnly: true}
- {name: edge-run, mountPath: /run/edge}
- {name: edge-state, mountPath: /var/lib/edge}
- {name: edge-tmp, mountPath: /tmp}
{{- if and (eq .Values.mode "central") .Values.central.tls.existingSecret }}
- {name: edge-tls, mountPath: /etc/edge-tls, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The three templates of a pod. Another chart includes them with this chart's scope. */}}
{{- define "edge-extproc.pod.initContainers" -}}
- name: render
  image: {{ include "edge-extproc.image" (list .Values.image .Chart.AppVersion) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  # It checks the configuration: a pod with a wrong one does not start, and the old pods stay.
  args: [render, --config, /etc/edge/edge.yaml, --output, /run/edge/envoy.json]
  {{- with include "edge-extproc.env" . }}
  {{- trim . | nindent 2 }}
  {{- end }}
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 512Mi}}
  securityContext:
    {{- include "edge-extproc.restricted" . | nindent 4 }}
  volumeMounts:
    {{- include "edge-extproc.mounts" . | nindent 4 }}
{{- end -}}

{{- define "edge-extproc.pod.containers" -}}
- name: agent
  image: {{ include "edge-extproc.image" (list .Values.image .Chart.AppVersion) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [serve, --config, /etc/edge/edge.yaml]
  {{- with include "edge-extproc.env" . }}
  {{- trim . | nindent 2 }}
  {{- end }}
  ports:
    - {name: admin, containerPort: {{ int .Values.ports.admin }}}
    {{- if eq .Values.mode "central" }}
    {{- range $n := until (int .Values.workers) }}
    - {name: grpc-worker-{{ $n }}, containerPort: {{ add (int $.Values.central.port) $n }}}
    {{- end }}
    {{- end }}
  startupProbe: {httpGet: {path: /readyz, port: admin}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {httpGet: {path: /readyz, port: admin}, periodSeconds: 3, failureThreshold: 2}
  # A dead worker is started again by its supervisor: only a supervisor that does not answer is restarted.
  livenessProbe: {httpGet: {path: /healthz, port: admin}, periodSeconds: 10, failureThreshold: 3}
  # Open requests of Envoy need the agent until they end.
  lifecycle: {preStop: {exec: {command: [sleep, "{{ int .Values.drainSeconds }}"]}}}
  resources: {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- include "edge-extproc.restricted" . | nindent 4 }}
  volumeMounts:
    {{- include "edge-extproc.mounts" . | nindent 4 }}
{{- if ne .Values.mode "central" }}
- name: envoy
  image: {{ include "edge-extproc.image" (list .Values.envoy.image "") }}
  imagePullPolicy: {{ .Values.envoy.image.pullPolicy }}
  command: [envoy, --config-path, /run/edge/envoy.json, --log-level, {{ .Values.envoy.logLevel }}, --concurrency, "{{ int .Values.envoy.concurrency }}", --disable-hot-restart]
  ports: [{name: http, containerPort: {{ int .Values.ports.http }}}]
  {{- if eq .Values.mode "sidecar" }}
  # The listener is on loopback, where a probe of the kubelet does not reach it.
  readinessProbe: {exec: {command: [bash, -c, "exec 3<>/dev/tcp/127.0.0.1/{{ int .Values.ports.http }}"]}, periodSeconds: 3, failureThreshold: 2}
  {{- else if (default dict .Values.config.listen).tls }}
  readinessProbe: {tcpSocket: {port: http}, periodSeconds: 3, failureThreshold: 2}
  {{- else }}
  readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 3, failureThreshold: 2}
  {{- end }}
  # The Service has forgotten the pod within seconds; requests under way have this long.
  lifecycle: {preStop: {exec: {command: [sleep, "{{ int .Values.drainSeconds }}"]}}}
  resources: {{- toYaml .Values.envoy.resources | nindent 4 }}
  securityContext:
    {{- include "edge-extproc.restricted" . | nindent 4 }}
  volumeMounts:
    - {name: edge-run, mountPath: /run/edge}
    - {name: edge-tmp, mountPath: /tmp}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "edge-extproc.pod.volumes" -}}
- {name: edge-config, configMap: {name: {{ include "edge-extproc.fullname" . }}}}
- {name: edge-run, emptyDir: {medium: Memory}}
- {name: edge-state, emptyDir: {}}
- {name: edge-tmp, emptyDir: {}}
{{- if and (eq .Values.mode "central") .Values.central.tls.existingSecret }}
- {name: edge-tls, secret: {secretName: {{ .Values.central.tls.existingSecret }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations that replace the pods if the configuration or the Secret changes. */}}
{{- define "edge-extproc.pod.annotations" -}}
checksum/config: {{ include "edge-extproc.config" . | sha256sum }}
{{- with .Values.secrets.checksum }}
checksum/secret: {{ . | quote }}
{{- end }}
{{- if and .Values.secrets.lookup .Values.secrets.existingSecret (not .Values.secrets.checksum) }}
checksum/secret: {{ toJson (default dict (lookup "v1" "Secret" .Release.Namespace .Values.secrets.existingSecret).data) | sha256sum }}
{{- end }}
{{- end -}}
