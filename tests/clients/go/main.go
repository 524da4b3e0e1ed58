// The clients of OpenAI and of Anthropic for Go. Jobs are read as a JSON list, and each gives a line.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

type job struct {
	ID, API, URL, Key, Model, Scenario, Prompt string
}

type weather struct {
	City    string   `json:"city"`
	Degrees int      `json:"degrees"`
	Tags    []string `json:"tags"`
}

type seen struct {
	ID     string   `json:"id"`
	Text   string   `json:"text"`
	Pieces int      `json:"pieces"`
	Value  *weather `json:"value,omitempty"`
	Error  string   `json:"error,omitempty"`
}

type object = map[string]any

var schema = object{
	"type":                 "object",
	"properties":           object{"city": object{"type": "string"}, "degrees": object{"type": "integer"}, "tags": object{"type": "array", "items": object{"type": "string"}}},
	"required":             []string{"city", "degrees", "tags"},
	"additionalProperties": false,
}

type function struct {
	name, description string
	properties        object
	required          []string
}

func (f function) parameters() object {
	return object{"type": "object", "properties": f.properties, "required": f.required}
}

var functions = []function{
	{"look_up", "Looks up the weather of a city.", object{"city": object{"type": "string"}}, []string{"city"}},
	{"add", "Adds two numbers.", object{"a": object{"type": "integer"}, "b": object{"type": "integer"}}, []string{"a", "b"}},
}

func call(name, arguments string) (string, error) {
	var given struct {
		City string
		A, B int
	}
	if err := json.Unmarshal([]byte(arguments), &given); err != nil {
		return "", fmt.Errorf("arguments %q: %w", arguments, err)
	}
	if name == "look_up" {
		return fmt.Sprintf("In %s it is 21 °C.", given.City), nil
	}
	return fmt.Sprintf("The sum is %d.", given.A+given.B), nil
}

func (s *seen) read(scenario, text string) error {
	s.Text = text
	if scenario == "structured" {
		return json.Unmarshal([]byte(text), &s.Value)
	}
	return nil
}

const mostTurns = 8

func chat(ctx context.Context, j job, s *seen) error {
	client := openai.NewClient(option.WithBaseURL(j.URL+"/v1/"), option.WithAPIKey(j.Key), option.WithMaxRetries(0))
	params := openai.ChatCompletionNewParams{
		Model:    j.Model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(j.Prompt)},
	}
	switch j.Scenario {
	case "structured":
		format := shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "weather", Schema: schema, Strict: openai.Bool(true)}
		params.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: format}
		fallthrough
	case "plain":
		reply, err := client.Chat.Completions.New(ctx, params)
		if err != nil {
			return err
		}
		return s.read(j.Scenario, reply.Choices[0].Message.Content)
	case "tools":
		for _, f := range functions {
			described := shared.FunctionDefinitionParam{Name: f.name, Description: openai.String(f.description), Parameters: f.parameters()}
			params.Tools = append(params.Tools, openai.ChatCompletionFunctionTool(described))
		}
	}
	for range mostTurns {
		stream := client.Chat.Completions.NewStreaming(ctx, params)
		whole := openai.ChatCompletionAccumulator{}
		for stream.Next() {
			chunk := stream.Current()
			if !whole.AddChunk(chunk) {
				return fmt.Errorf("the chunk does not fit: %s", chunk.RawJSON())
			}
			if len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
				s.Pieces++
			}
		}
		if err := stream.Err(); err != nil {
			return err
		}
		message := whole.Choices[0].Message
		if len(message.ToolCalls) == 0 {
			return s.read(j.Scenario, message.Content)
		}
		params.Messages = append(params.Messages, message.ToParam())
		for _, each := range message.ToolCalls {
			result, err := call(each.Function.Name, each.Function.Arguments)
			if err != nil {
				return err
			}
			params.Messages = append(params.Messages, openai.ToolMessage(result, each.ID))
		}
	}
	return fmt.Errorf("no end after %d turns", mostTurns)
}

func responsesOf(ctx context.Context, j job, s *seen) error {
	client := openai.NewClient(option.WithBaseURL(j.URL+"/v1/"), option.WithAPIKey(j.Key), option.WithMaxRetries(0))
	params := responses.ResponseNewParams{
		Model:   j.Model,
		Store:   openai.Bool(false),
		Include: []responses.ResponseIncludable{"reasoning.encrypted_content"},
	}
	items := responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage(j.Prompt, responses.EasyInputMessageRoleUser)}
	params.Input.OfInputItemList = items
	switch j.Scenario {
	case "structured":
		params.Text.Format = responses.ResponseFormatTextConfigParamOfJSONSchema("weather", schema)
		fallthrough
	case "plain":
		reply, err := client.Responses.New(ctx, params)
		if err != nil {
			return err
		}
		return s.read(j.Scenario, reply.OutputText())
	case "tools":
		for _, f := range functions {
			params.Tools = append(params.Tools, responses.ToolParamOfFunction(f.name, f.parameters(), false))
		}
	}
	for range mostTurns {
		params.Input.OfInputItemList = items
		stream := client.Responses.NewStreaming(ctx, params)
		var whole responses.Response
		for stream.Next() {
			event := stream.Current()
			switch event.Type {
			case "response.output_text.delta":
				s.Pieces++
			case "response.completed":
				whole = event.Response
			}
		}
		if err := stream.Err(); err != nil {
			return err
		}
		calls := 0
		var results responses.ResponseInputParam
		for _, item := range whole.Output {
			switch found := item.AsAny().(type) {
			case responses.ResponseReasoningItem:
				param := found.ToParam()
				items = append(items, responses.ResponseInputItemUnionParam{OfReasoning: &param})
			case responses.ResponseFunctionToolCall:
				calls++
				param := found.ToParam()
				items = append(items, responses.ResponseInputItemUnionParam{OfFunctionCall: &param})
				result, err := call(found.Name, found.Arguments)
				if err != nil {
					return err
				}
				output := responses.ResponseInputItemParamOfFunctionCallOutput(result)
				output.OfFunctionCallOutput.CallID = openai.String(found.CallID)
				results = append(results, output)
			}
		}
		items = append(items, results...)
		if calls == 0 {
			return s.read(j.Scenario, whole.OutputText())
		}
	}
	return fmt.Errorf("no end after %d turns", mostTurns)
}

func textOf(message *anthropic.Message) string {
	text := ""
	for _, block := range message.Content {
		text += block.Text
	}
	return text
}

func messages(ctx context.Context, j job, s *seen) error {
	client := anthropic.NewClient(anthropicoption.WithBaseURL(j.URL), anthropicoption.WithAPIKey(j.Key), anthropicoption.WithMaxRetries(0))
	params := anthropic.MessageNewParams{
		Model:     anthropic.Model(j.Model),
		MaxTokens: 1000,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(j.Prompt))},
	}
	switch j.Scenario {
	case "structured":
		params.OutputConfig.Format = anthropic.JSONOutputFormatParam{Schema: schema}
		fallthrough
	case "plain":
		reply, err := client.Messages.New(ctx, params)
		if err != nil {
			return err
		}
		return s.read(j.Scenario, textOf(reply))
	case "tools":
		for _, f := range functions {
			tool := anthropic.ToolParam{
				Name:        f.name,
				Description: anthropic.String(f.description),
				InputSchema: anthropic.ToolInputSchemaParam{Properties: f.properties, Required: f.required},
			}
			params.Tools = append(params.Tools, anthropic.ToolUnionParam{OfTool: &tool})
		}
	}
	for range mostTurns {
		stream := client.Messages.NewStreaming(ctx, params)
		whole := anthropic.Message{}
		for stream.Next() {
			event := stream.Current()
			if err := whole.Accumulate(event); err != nil {
				return err
			}
			if event.Type == "content_block_delta" && event.Delta.Text != "" {
				s.Pieces++
			}
		}
		if err := stream.Err(); err != nil {
			return err
		}
		var results []anthropic.ContentBlockParamUnion
		for _, block := range whole.Content {
			if block.Type == "tool_use" {
				result, err := call(block.Name, string(block.Input))
				if err != nil {
					return err
				}
				results = append(results, anthropic.NewToolResultBlock(block.ID, result, false))
			}
		}
		if len(results) == 0 {
			return s.read(j.Scenario, textOf(&whole))
		}
		params.Messages = append(params.Messages, whole.ToParam(), anthropic.NewUserMessage(results...))
	}
	return fmt.Errorf("no end after %d turns", mostTurns)
}

func main() {
	var jobs []job
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	apis := map[string]func(context.Context, job, *seen) error{"chat": chat, "responses": responsesOf, "anthropic": messages}
	out := json.NewEncoder(os.Stdout)
	for _, j := range jobs {
		s := seen{ID: j.ID}
		if err := apis[j.API](context.Background(), j, &s); err != nil {
			s.Error = err.Error()
		}
		if err := out.Encode(s); err != nil {
			os.Exit(1)
		}
	}
}
