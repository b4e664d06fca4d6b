// The bridge that a platform engineer writes by hand in an afternoon, to measure longhaul against:
//
//	bridge rabbitmq AMQP_URL QUEUE SINK IN_FLIGHT
//	bridge kafka BOOTSTRAP TOPIC SINK IN_FLIGHT
//
// It keeps its HTTP connections and acks each item after the answer. On Kafka it commits the offset
// below the first unfinished record. It has no retries, no dead letters, no drain and no gap map.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: bridge rabbitmq|kafka ADDRESS QUEUE SINK IN_FLIGHT")
	}
	inFlight, err := strconv.Atoi(os.Args[5])
	check(err)
	sink := newSink(os.Args[4], inFlight)
	go exitWhenTold()
	switch os.Args[1] {
	case "rabbitmq":
		rabbitmq(os.Args[2], os.Args[3], sink, inFlight)
	case "kafka":
		kafka(os.Args[2], os.Args[3], sink, inFlight)
	default:
		log.Fatalf("unknown source %q", os.Args[1])
	}
}

// exitWhenTold ends at once: by then the benchmark has seen all items.
func exitWhenTold() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	<-told
	os.Exit(0)
}

func rabbitmq(url, queue string, sink *sink, inFlight int) {
	connection, err := amqp.Dial(url)
	check(err)
	channel, err := connection.Channel()
	check(err)
	check(channel.Qos(inFlight, 0, false))
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	check(err)
	for delivery := range deliveries {
		go func() {
			sink.post(rand.Text(), "dev.knative.rabbitmq.event", queue, time.Now(), delivery.Body)
			check(delivery.Ack(false))
		}()
	}
}

func kafka(bootstrap, topic string, sink *sink, inFlight int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topic),
		kgo.AutoCommitMarks(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	check(err)
	slots := make(chan struct{}, inFlight)
	partitions := map[int32]*watermark{}
	for {
		fetches := client.PollFetches(context.Background())
		check(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			partition := partitions[record.Partition]
			if partition == nil {
				partition = &watermark{done: map[int64]*kgo.Record{}, next: record.Offset}
				partitions[record.Partition] = partition
			}
			slots <- struct{}{}
			go func() {
				id := fmt.Sprintf("partition:%d/offset:%d", record.Partition, record.Offset)
				sink.post(id, "dev.knative.kafka.event", topic, record.Timestamp, record.Value)
				partition.finish(client, record)
				<-slots
			}()
		})
	}
}

// watermark commits a record once all before it are done.
type watermark struct {
	sync.Mutex
	done map[int64]*kgo.Record
	next int64
}

func (w *watermark) finish(client *kgo.Client, record *kgo.Record) {
	w.Lock()
	defer w.Unlock()
	w.done[record.Offset] = record
	for record := w.done[w.next]; record != nil; record = w.done[w.next] {
		client.MarkCommitRecords(record)
		delete(w.done, w.next)
		w.next++
	}
}

type sink struct {
	url    string
	client *http.Client
}

func newSink(url string, inFlight int) *sink {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = inFlight
	transport.MaxIdleConns = inFlight
	return &sink{url, &http.Client{Transport: transport}}
}

func (s *sink) post(id, kind, source string, at time.Time, body []byte) {
	request, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(body))
	check(err)
	for name, value := range map[string]string{
		"ce-specversion": "1.0", "ce-id": id, "ce-type": kind, "ce-source": source, "ce-time": at.Format(time.RFC3339Nano),
	} {
		request.Header.Set(name, value)
	}
	response, err := s.client.Do(request)
	check(err)
	_, err = io.Copy(io.Discard, response.Body)
	check(err)
	check(response.Body.Close())
	if response.StatusCode/100 != 2 {
		log.Fatalf("%s: %s", id, response.Status)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
