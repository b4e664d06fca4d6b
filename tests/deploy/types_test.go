package deploy

// The fields that our manifests use of the APIs whose Go types cannot be imported, after their
// public schemas. A field that is not here is refused, so a new one is a decision in a review.

type metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
}

type head struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
}

type named struct {
	Name string `json:"name"`
}

// destination is duck/v1 Destination.
type destination struct {
	Ref *struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		Namespace  string `json:"namespace"`
	} `json:"ref"`
	URI      string `json:"uri"`
	CACerts  string `json:"CACerts"`
	Audience string `json:"audience"`
}

type sinkBinding struct {
	head
	Spec struct {
		Sink    destination `json:"sink"`
		Subject struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
		} `json:"subject"`
	} `json:"spec"`
}

type scaledObject struct {
	head
	Spec struct {
		ScaleTargetRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int32 `json:"minReplicaCount"`
		MaxReplicaCount int32 `json:"maxReplicaCount"`
		Advanced        struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior struct {
					ScaleDown struct {
						StabilizationWindowSeconds int32 `json:"stabilizationWindowSeconds"`
						Policies                   []struct {
							Type          string `json:"type"`
							Value         int32  `json:"value"`
							PeriodSeconds int32  `json:"periodSeconds"`
						} `json:"policies"`
					} `json:"scaleDown"`
				} `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type              string            `json:"type"`
			Metadata          map[string]string `json:"metadata"`
			AuthenticationRef named             `json:"authenticationRef"`
		} `json:"triggers"`
	} `json:"spec"`
}

type triggerAuthentication struct {
	head
	Spec struct {
		SecretTargetRef []struct {
			Parameter string `json:"parameter"`
			Name      string `json:"name"`
			Key       string `json:"key"`
		} `json:"secretTargetRef"`
	} `json:"spec"`
}

type podMonitor struct {
	head
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		PodMetricsEndpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type prometheusRule struct {
	head
	Spec struct {
		Groups []struct {
			Name     string `json:"name"`
			Interval string `json:"interval"`
			Rules    []struct {
				Alert       string            `json:"alert"`
				Record      string            `json:"record"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

type externalSecret struct {
	head
	Spec struct {
		RefreshInterval string `json:"refreshInterval"`
		SecretStoreRef  struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"secretStoreRef"`
		Data []struct {
			SecretKey string `json:"secretKey"`
			RemoteRef struct {
				Key      string `json:"key"`
				Property string `json:"property"`
			} `json:"remoteRef"`
		} `json:"data"`
	} `json:"spec"`
}

type rabbitmqQueue struct {
	head
	Spec struct {
		Name                     string         `json:"name"`
		Type                     string         `json:"type"`
		Durable                  bool           `json:"durable"`
		RabbitmqClusterReference named          `json:"rabbitmqClusterReference"`
		DeletionPolicy           string         `json:"deletionPolicy"`
		Arguments                map[string]any `json:"arguments"`
	} `json:"spec"`
}

type rabbitmqUser struct {
	head
	Spec struct {
		RabbitmqClusterReference named `json:"rabbitmqClusterReference"`
	} `json:"spec"`
}

type rabbitmqPermission struct {
	head
	Spec struct {
		Vhost         string `json:"vhost"`
		UserReference named  `json:"userReference"`
		Permissions   struct {
			Configure string `json:"configure"`
			Write     string `json:"write"`
			Read      string `json:"read"`
		} `json:"permissions"`
		RabbitmqClusterReference named `json:"rabbitmqClusterReference"`
	} `json:"spec"`
}

type kafkaTopic struct {
	head
	Spec struct {
		Partitions int            `json:"partitions"`
		Replicas   int            `json:"replicas"`
		Config     map[string]any `json:"config"`
	} `json:"spec"`
}

type kafkaUser struct {
	head
	Spec struct {
		Authentication struct {
			Type string `json:"type"`
		} `json:"authentication"`
		Authorization struct {
			Type string `json:"type"`
			ACLs []struct {
				Resource struct {
					Type        string `json:"type"`
					Name        string `json:"name"`
					PatternType string `json:"patternType"`
				} `json:"resource"`
				Operations []string `json:"operations"`
			} `json:"acls"`
		} `json:"authorization"`
	} `json:"spec"`
}

// written maps the version and kind of an API to a new value of its type.
var written = map[string]func() any{
	"sources.knative.dev/v1/SinkBinding":      func() any { return new(sinkBinding) },
	"keda.sh/v1alpha1/ScaledObject":           func() any { return new(scaledObject) },
	"keda.sh/v1alpha1/TriggerAuthentication":  func() any { return new(triggerAuthentication) },
	"monitoring.coreos.com/v1/PodMonitor":     func() any { return new(podMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(prometheusRule) },
	"external-secrets.io/v1/ExternalSecret":   func() any { return new(externalSecret) },
	"rabbitmq.com/v1beta1/Queue":              func() any { return new(rabbitmqQueue) },
	"rabbitmq.com/v1beta1/User":               func() any { return new(rabbitmqUser) },
	"rabbitmq.com/v1beta1/Permission":         func() any { return new(rabbitmqPermission) },
	"kafka.strimzi.io/v1beta2/KafkaTopic":     func() any { return new(kafkaTopic) },
	"kafka.strimzi.io/v1beta2/KafkaUser":      func() any { return new(kafkaUser) },
}
