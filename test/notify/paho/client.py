"""client.py PORT VERSION TOPIC: prints the first message on the topic."""

import sys

import paho.mqtt.client as mqtt

port, version, topic = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311)


def connected(client, _data, _flags, reason, _properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    client.subscribe(topic, qos=1)


def heard(client, _data, message):
    print(message.payload.decode())
    client.disconnect()


client.on_connect = connected
client.on_message = heard
client.connect("127.0.0.1", port)
client.loop_forever()
