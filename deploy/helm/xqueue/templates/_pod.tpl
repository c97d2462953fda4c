{{/* What the objects are called, and what they have in common. */}}
{{- define "xqueue.name" -}}
{{- if contains "xqueue" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-xqueue" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "xqueue.selector" -}}
app.kubernetes.io/name: xqueue
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "xqueue.labels" -}}
{{ include "xqueue.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* "true" where tasks are in a file of the one pod, which is server and worker. */}}
{{- define "xqueue.isEmbedded" -}}
{{- if not (or .Values.engine.url .Values.engine.existingSecret) }}true{{ end }}
{{- end }}

{{- define "xqueue.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "xqueue.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* A setting's value, or where it is kept: (list "XQUEUE_X" value secret key) */}}
{{- define "xqueue.secretSetting" -}}
{{- $name := index . 0 }}{{ $value := index . 1 }}{{ $secret := index . 2 }}{{ $key := index . 3 }}
{{- if $secret }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- else if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* The settings of a pod: (dict "root" $ "component" "server") */}}
{{- define "xqueue.settings" -}}
{{- $values := .root.Values }}
{{- include "xqueue.secretSetting" (list "XQUEUE_ENGINE" $values.engine.url $values.engine.existingSecret $values.engine.existingSecretKey) }}
{{- if and (eq .component "worker") (not $values.mqtt.url) (not $values.mqtt.existingSecret) }}
- name: XQUEUE_MQTT
  value: "off"
{{- else }}
{{- include "xqueue.secretSetting" (list "XQUEUE_MQTT" $values.mqtt.url $values.mqtt.existingSecret $values.mqtt.existingSecretKey) }}
{{- end }}
- name: XQUEUE_AUTH
  value: {{ $values.access.auth | quote }}
{{- if $values.access.insecure }}
- name: XQUEUE_INSECURE
  value: "true"
{{- end }}
{{- with $values.access.jwt }}
{{- range $setting, $value := dict "XQUEUE_JWT_JWKS" .jwks "XQUEUE_JWT_ISSUER" .issuer "XQUEUE_JWT_AUDIENCE" .audience }}
{{- if $value }}
- name: {{ $setting }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
- name: XQUEUE_CONCURRENCY
  value: {{ $values.worker.concurrency | quote }}
- name: XQUEUE_SHUTDOWN
  value: {{ printf "%vs" $values.shutdownSeconds | quote }}
{{- with $values.handlers }}
- name: XQUEUE_HANDLERS
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := $values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $_ := $values.secretFiles }}
- name: {{ $name }}_FILE
  value: /run/secrets/xqueue/{{ $name }}
{{- end }}
{{- end }}

{{/* The pod of a component: (dict "root" $ "component" "server" "args" (list "serve")) */}}
{{- define "xqueue.pod" -}}
{{- $values := .root.Values }}
metadata:
  labels:
    {{- include "xqueue.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "xqueue.serviceAccount" .root }}
  automountServiceAccountToken: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Running tasks may finish, and their outcomes be told.
  terminationGracePeriodSeconds: {{ add $values.shutdownSeconds 15 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: xqueue
      {{- with $values.image }}
      image: "{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}"
      {{- end }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        {{- include "xqueue.settings" . | trim | nindent 8 }}
      {{- with $values.envFromSecrets }}
      envFrom:
        {{- range . }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8080
        {{- if eq .component "server" }}
        - name: mqtt
          containerPort: 1883
        {{- end }}
      startupProbe:
        httpGet: { path: /api/v1/live, port: http }
        periodSeconds: 2
        failureThreshold: 30
      # The process alone: a restart does not bring a lost Redis back.
      livenessProbe:
        httpGet: { path: /api/v1/live, port: http }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: { path: /api/v1/health, port: http }
        periodSeconds: 10
        timeoutSeconds: 8
        failureThreshold: 2
      {{- if eq .component "server" }}
      lifecycle:
        preStop:
          exec:
            # Until no new call is sent here.
            command: ["sleep", "5"]
      {{- end }}
      resources:
        {{- toYaml (index $values .component).resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - { name: data, mountPath: /data }
        - { name: tmp, mountPath: /tmp }
        {{- if $values.secretFiles }}
        - { name: secrets, mountPath: /run/secrets/xqueue, readOnly: true }
        {{- end }}
  volumes:
    {{- if $values.secretFiles }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- range $name, $from := $values.secretFiles }}
          - secret:
              name: {{ $from.secret }}
              items:
                - { key: {{ $from.key | quote }}, path: {{ $name }} }
          {{- end }}
    {{- end }}
    - name: data
      {{- if include "xqueue.isEmbedded" .root }}
      persistentVolumeClaim:
        claimName: {{ $values.engine.persistence.existingClaim | default (include "xqueue.name" .root) }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: tmp
      emptyDir: {}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if not (include "xqueue.isEmbedded" .root) }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "xqueue.selector" .root | nindent 10 }}
          app.kubernetes.io/component: {{ .component }}
  {{- end }}
{{- end }}
